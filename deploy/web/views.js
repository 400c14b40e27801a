// Tells view-ingest which posts were seen: half of one, or of the screen, for a second. See views.d.ts.
const SECOND = 1000, MINUTE = 60 * SECOND;

export function createViews({ url, token, cookies, flushMs = 3 * SECOND, onCounts, onError }) {
  const posts = new Map(), known = new Set(), queue = [];
  let limit = 100, failures = 0, busy, timer, held;
  // What a callback throws is not ours.
  const tell = (callback, value, more) => setTimeout(() => callback?.(value, more));

  const bearer = () => held ??= (async () => typeof token === 'function' ? token() : token)()
    .catch((error) => { held = null; throw error; });

  // Asks again for a refused token.
  async function call(path, authorized, init) {
    for (let renewed; ; renewed = authorized, authorized = true) {
      const headers = {}, used = authorized && bearer(), value = await used;
      if (value) headers.authorization = `Bearer ${value}`;
      const signal = AbortSignal.timeout(MINUTE), credentials = cookies ? 'include' : 'omit';
      const answer = await fetch(url.replace(/\/+$/, '') + path, { ...init, headers, credentials, signal });
      const { ok, status } = answer, pause = SECOND * answer.headers.get('retry-after');
      if (ok) return answer.json();
      if (status !== 401 || !token || renewed) throw Object.assign(new Error(`views: ${status}`), { status, pause });
      if (held === used) held = null;
    }
  }

  // Puts back what was not taken, and returns how long to wait.
  async function send(ids) {
    try {
      // Plain text: with a cookie, it needs no preflight.
      const body = JSON.stringify({ postIds: ids });
      const { results } = await call('/posts/views-batch', true, { method: 'POST', keepalive: true, body });
      tell(onCounts, Object.fromEntries(results.map((one) => [one.postId, one.viewsCount])));
      return failures = 0;
    } catch (error) {
      tell(onError, error, []);
      queue.unshift(...ids);
      if (error?.status === 400 && ids.length > 1) {
        // It may take fewer at once.
        limit = ids.length >> 1;
        return 0;
      }
      const wait = Math.min(MINUTE, SECOND * 2 ** failures++) * (1 + Math.random()) / 2;
      return Math.max(wait, Math.min(error?.pause || 0, 1e9));
    }
  }

  const schedule = (wait) => queue.length && (timer ??= setTimeout(flush, wait));

  async function flush() {
    clearTimeout(timer);
    timer = null;
    if (busy) return;
    busy = true;
    let wait = 0;
    while (queue.length && !wait) wait = await send(queue.splice(0, limit));
    busy = false;
    schedule(wait);
  }

  // The page may be closed now. What browsers do not keep alive (64 KiB) comes back.
  function leave() {
    for (const all = queue.splice(0); all.length;) send(all.splice(0, limit)).then(schedule);
  }

  function seen(id) {
    id += '';
    if (known.has(id)) return;
    known.add(id);
    if (!/^[\w-]{1,64}$/.test(id)) return tell(onError, new Error(`no id: ${id}`), [id]);
    queue.push(id);
    schedule(flushMs);
    // A page that is closed cannot wait for it.
    bearer().catch(() => {});
  }

  function wind(post, element) {
    if (!post.visible || document.hidden) post.clock = clearTimeout(post.clock);
    else post.clock ??= setTimeout(() => {
      unobserve(element);
      seen(post.id);
    }, SECOND);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, boundingClientRect: all, intersectionRect: part, rootBounds } of entries) {
      const post = posts.get(target), screen = rootBounds ?? { width: innerWidth, height: innerHeight };
      if (!post) continue;
      const most = Math.min(all.width, screen.width) * Math.min(all.height, screen.height);
      // Of what is empty still, nothing is visible.
      post.visible = part.width * part.height >= Math.max(1, most * 0.499);
      wind(post, target);
    }
    // Of a tall post only a small part is ever visible: one of these is just below.
  }, { threshold: [...Array(19)].map((_, step) => step && 0.5 ** ((step + 1) / 2)) });

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
      const answer = await call(`/posts/${name}?ids=${encodeURIComponent(rest.splice(0, limit))}`, authorized);
      Object.assign(all, answer[name]);
    }
    tell(callback, all);
    return all;
  }

  addEventListener('pagehide', leave);
  document.addEventListener('visibilitychange', () => {
    posts.forEach(wind);
    if (document.hidden) leave();
  });
  return {
    observe, unobserve, seen, flush,
    counts: (ids) => read('views', false, ids, onCounts),
    viewed: (ids) => read('viewed', true, ids),
  };
}
