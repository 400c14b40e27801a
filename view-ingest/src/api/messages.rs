//! What users are told, in the origin document's language. Its own texts stay to the letter.

/// The view is new.
pub(crate) const COUNTED: &str = "Просмотр добавлен";
/// The viewer has seen the post before.
pub(crate) const DUPLICATE: &str = "Просмотр уже учтен";
/// The viewer is the author.
pub(crate) const OWN: &str = "Автор не может просматривать свой пост";
/// The beginning of the answer to a batch; the number follows.
pub(crate) const BATCH_COUNTED: &str = "Добавлено просмотров: ";
/// There is no such post.
pub(crate) const POST_NOT_FOUND: &str = "Пост не найден";

/// No such path.
pub(crate) const NO_ROUTE: &str = "Маршрут не найден";
/// The path does not take this method.
pub(crate) const METHOD: &str = "Метод не поддерживается";
/// No token.
pub(crate) const TOKEN_MISSING: &str = "Требуется авторизация";
/// A token that does not hold.
pub(crate) const TOKEN_INVALID: &str = "Недействительный токен";
/// A token that held once.
pub(crate) const TOKEN_EXPIRED: &str = "Срок действия токена истек";
/// A token that holds, of a viewer whose id the application's column cannot hold.
pub(crate) const VIEWER_UNFIT: &str = "Идентификатор пользователя в токене не подходит";
/// The body is not announced as JSON.
pub(crate) const CONTENT_TYPE: &str = "Ожидается Content-Type: application/json";
/// The body is no JSON object of the right form.
pub(crate) const BAD_JSON: &str = "Некорректный JSON";
/// The body has no post id.
pub(crate) const POST_ID_MISSING: &str = "Не указан postId";
/// The body has no list of post ids.
pub(crate) const POST_IDS_MISSING: &str = "Не указан список постов";
/// An id is not one.
pub(crate) const POST_ID_BAD: &str = "Некорректный идентификатор поста";
/// The list of posts is empty.
pub(crate) const BATCH_EMPTY: &str = "Список постов пуст";
/// The list of posts is too long; the limit follows.
pub(crate) const BATCH_LONG: &str = "Слишком много постов в запросе, максимум: ";
/// The body is too large.
pub(crate) const TOO_LARGE: &str = "Слишком большое тело запроса";
/// The body is compressed.
pub(crate) const ENCODING: &str = "Сжатое тело запроса не поддерживается";
/// No Host header, or more than one of a header that there may be one of.
pub(crate) const AMBIGUOUS: &str = "Нужен ровно один заголовок Host и не более одного Authorization";
/// A token in two cookies of one name.
pub(crate) const TWO_COOKIES: &str = "Токен передан в двух разных cookie с одним именем";
/// A token in a cookie, with a request of a page that may not send views.
pub(crate) const ORIGIN_REFUSED: &str = "Запрос с этого сайта не разрешен";
/// The headers are too large.
pub(crate) const HEADERS_LARGE: &str = "Слишком большие заголовки запроса";
/// The body did not arrive in time.
pub(crate) const TOO_SLOW: &str = "Превышено время ожидания запроса";
/// The body did not arrive whole.
pub(crate) const BODY_BROKEN: &str = "Тело запроса не получено";
/// The account has sent more views than it may.
pub(crate) const TOO_MANY_VIEWS: &str = "Слишком много просмотров, повторите позже";
/// No store can be written to, or too much work waits.
pub(crate) const UNAVAILABLE: &str = "Сервис временно недоступен";
