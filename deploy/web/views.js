// Tells view-ingest which posts were seen: half of one, or of the screen where it is taller, for a second.
// views.d.ts describes the options.
const MAX_BATCH = 100, SECOND = 1000, MAX_WAIT = 60 * SECOND;
// Of a tall post only a small part is ever visible: one of these is just below.
const THRESHOLDS = [0, ...Array.from({ length: 18 }, (_, step) => 0.5 ** (1 + step / 2))];

export function createViews({ url, token, cookies, flushMs = 3 * SECOND, onCounts, onError }) {
  const posts = new Map(), known = new Set(), queue = [];
  let limit = MAX_BATCH, failures = 0, busy, timer, held;
  // What a callback throws is not ours.
  const tell = (callback, value, more) => setTimeout(() => callback?.(value, more));

  // A refused token is asked for again.
  async function call(path, authorized, init) {
    for (let renewed; ;) {
      const headers = {}, signal = AbortSignal.timeout(MAX_WAIT), credentials = cookies ? 'include' : 'omit';
      if (authorized) held ??= typeof token === 'function' ? await token() : token;
      if (authorized && held) headers.authorization = `Bearer ${held}`;
      const answer = await fetch(url.replace(/\/+$/, '') + path, { ...init, headers, credentials, signal });
      if (answer.status !== 401 || !token || renewed) return answer;
      if (authorized) [renewed, held] = [true];
      authorized = true;
    }
  }

  // Puts back what was not taken, and returns how long to wait.
  async function send(ids) {
    let status, pause, error;
    try {
      // Plain text, which needs no preflight where the token is a cookie.
      const body = JSON.stringify({ postIds: ids });
      const answer = await call('/posts/views-batch', true, { method: 'POST', keepalive: true, body });
      [status, pause] = [answer.status, SECOND * answer.headers.get('retry-after')];
      if (!answer.ok) throw new Error(`views: ${status}`);
      const { results } = await answer.json();
      tell(onCounts, Object.fromEntries(results.map((one) => [one.postId, one.viewsCount])));
      [limit, failures] = [MAX_BATCH, 0];
      return 0;
    } catch (caught) {
      error = caught;
    }
    // One id is wrong, or these are too many: halves tell which.
    const isUnfit = status === 400 || status === 413, lost = isUnfit && ids.length === 1;
    tell(onError, error, lost ? ids : []);
    if (!lost) queue.unshift(...ids);
    if (isUnfit) limit = Math.ceil(ids.length / 2);
    if (isUnfit) return 0;
    return Math.max(Math.min(MAX_WAIT, SECOND * 2 ** failures++) * (1 + Math.random()) / 2, pause || 0);
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

  // The page may be closed at any moment now. What browsers do not keep alive (64 KiB) comes back.
  function leave() {
    for (const all = queue.splice(0); all.length;) send(all.splice(0, limit)).then(schedule);
  }

  function seen(id) {
    id += '';
    if (known.has(id)) return;
    known.add(id);
    queue.push(id);
    schedule(flushMs);
  }

  function wind(post, element) {
    if (!post.visible || document.hidden) post.clock = clearTimeout(post.clock);
    else post.clock ??= setTimeout(() => {
      unobserve(element);
      seen(post.id);
    }, SECOND);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting, boundingClientRect: all, intersectionRect: part, rootBounds } of entries) {
      const post = posts.get(target), screen = rootBounds ?? { width: innerWidth, height: innerHeight };
      if (!post) continue;
      const most = Math.min(all.width, screen.width) * Math.min(all.height, screen.height);
      post.visible = isIntersecting && part.width * part.height >= most * 0.499;
      wind(post, target);
    }
  }, { threshold: THRESHOLDS });

  function observe(element, id) {
    unobserve(element);
    posts.set(element, { id });
    observer.observe(element);
  }

  function unobserve(element) {
    clearTimeout(posts.get(element)?.clock);
    posts.delete(element);
    observer.unobserve(element);
  }

  async function read(name, authorized, ids, callback) {
    const all = {}, rest = [...new Set(ids)];
    while (rest.length) {
      const answer = await call(`/posts/${name}?ids=${rest.splice(0, MAX_BATCH)}`, authorized);
      if (!answer.ok) throw new Error(`views: ${answer.status}`);
      Object.assign(all, (await answer.json())[name]);
    }
    tell(callback, all);
    return all;
  }

  addEventListener('pagehide', leave);
  document.addEventListener('visibilitychange', () => {
    posts.forEach(wind);
    if (document.hidden) leave();
  });
  const counts = (ids) => read('views', false, ids, onCounts);
  return { observe, unobserve, seen, flush, counts, viewed: (ids) => read('viewed', true, ids) };
}
