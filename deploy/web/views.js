// Tells view-ingest which posts were seen: half of one, or half of the screen where it is taller, for a second.
// The options are described in views.d.ts.
const MAX_BATCH = 100, SECOND = 1000, MAX_WAIT = 60 * SECOND;
// With one under way, what browsers send for a closed page: 64 KiB.
const LAST_BATCHES = 8;
// Of a tall post only a small part is ever visible: one of these is just below it.
const THRESHOLDS = [0, ...Array.from({ length: 18 }, (_, step) => 0.5 ** (1 + step / 2))];

export function createViews({ url, token, cookies, flushMs = 3 * SECOND, onCounts, onError }) {
  const posts = new Map(), known = new Set(), queue = [];
  let limit = MAX_BATCH, failures = 0, busy, timer, held;
  // What a callback throws is the page's business.
  const tell = async (callback, ...values) => callback?.(...values);

  // A token is asked for once, and again when it is refused.
  async function call(path, authorized, init) {
    for (let renewed; ;) {
      const headers = {};
      if (authorized) held ??= typeof token === 'function' ? await token() : token;
      if (authorized && held) headers.authorization = `Bearer ${held}`;
      const signal = AbortSignal.timeout(MAX_WAIT), credentials = cookies ? 'include' : 'omit';
      const answer = await fetch(url.replace(/\/+$/, '') + path, { ...init, headers, credentials, signal });
      if (answer.status !== 401 || !token || renewed) return answer;
      if (authorized) [renewed, held] = [true];
      authorized = true;
    }
  }

  // Puts back what was not taken, and returns how long to wait before the next posts.
  async function send(ids) {
    let answer, error;
    try {
      // Plain text, which needs no preflight where the token is a cookie.
      const body = JSON.stringify({ postIds: ids });
      answer = await call('/posts/views-batch', true, { method: 'POST', keepalive: true, body });
      error = new Error(`views: ${answer.status}`);
      if (answer.ok) {
        const { results } = await answer.json();
        tell(onCounts, Object.fromEntries(results.map((one) => [one.postId, one.viewsCount])));
        [limit, failures] = [MAX_BATCH, 0];
        return 0;
      }
    } catch (lost) {
      error = lost;
    }
    const unfit = [400, 413].includes(answer?.status), last = unfit && ids.length === 1;
    tell(onError, error, last ? ids : []);
    if (!last) queue.unshift(...ids);
    // One id is wrong, or these are too many: halves tell which.
    if (unfit) limit = Math.ceil(ids.length / 2);
    if (unfit) return 0;
    const backoff = Math.min(MAX_WAIT, SECOND * 2 ** failures++) * (1 + Math.random()) / 2;
    return Math.max(backoff, SECOND * answer?.headers.get('retry-after') || 0);
  }

  const schedule = (wait) => queue.length && (timer ??= setTimeout(flush, wait));

  async function flush() {
    clearTimeout(timer);
    timer = undefined;
    if (busy) return;
    busy = true;
    let wait = 0;
    while (queue.length && !wait) wait = await send(queue.splice(0, limit));
    busy = false;
    schedule(wait);
  }

  // The page may be closed at any moment now, and then nothing is sent any more.
  function leave() {
    posts.forEach(stop);
    for (let n = 0; n < LAST_BATCHES && queue.length; n++) send(queue.splice(0, limit)).then(schedule);
  }

  function seen(id) {
    id += '';
    if (known.has(id)) return;
    known.add(id);
    queue.push(id);
    schedule(flushMs);
  }

  function start(post, element) {
    if (!post.visible || document.hidden) return;
    post.clock ??= setTimeout(() => {
      unobserve(element);
      seen(post.id);
    }, SECOND);
  }

  function stop(post) {
    clearTimeout(post?.clock);
    if (post) post.clock = undefined;
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting, boundingClientRect: all, intersectionRect: part, rootBounds } of entries) {
      const post = posts.get(target), screen = rootBounds ?? { width: innerWidth, height: innerHeight };
      if (!post) continue;
      const most = Math.min(all.width, screen.width) * Math.min(all.height, screen.height);
      post.visible = isIntersecting && part.width * part.height >= most * 0.499;
      (post.visible ? start : stop)(post, target);
    }
  }, { threshold: THRESHOLDS });

  function observe(element, id) {
    unobserve(element);
    posts.set(element, { id });
    observer.observe(element);
  }

  function unobserve(element) {
    stop(posts.get(element));
    posts.delete(element);
    observer.unobserve(element);
  }

  async function read(name, authorized, ids, callback) {
    const all = {}, wanted = [...new Set(ids)];
    while (wanted.length) {
      const answer = await call(`/posts/${name}?ids=${wanted.splice(0, MAX_BATCH)}`, authorized);
      if (!answer.ok) throw new Error(`views: ${answer.status}`);
      Object.assign(all, (await answer.json())[name]);
    }
    tell(callback, all);
    return all;
  }

  addEventListener('pagehide', leave);
  document.addEventListener('visibilitychange', () => document.hidden ? leave() : posts.forEach(start));
  const counts = (ids) => read('views', false, ids, onCounts), viewed = (ids) => read('viewed', true, ids);
  return { observe, unobserve, seen, flush, counts, viewed };
}
