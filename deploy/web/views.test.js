// What views.js does in a browser, with a clock, a server and a screen that obey. Run by `node --test`.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';

const MODULE = new URL('./views.js', import.meta.url);
const SCREEN = { width: 400, height: 800 };

/** A browser of one page, with a module of its own. */
async function page(options = {}) {
  const clock = { now: 0, next: 1, timers: new Map() };
  const listeners = {};
  const listen = (name, listener) => (listeners[name] ??= []).push(listener);
  const requests = [];
  const told = [];
  const errors = [];
  const thrown = [];
  let observer;

  globalThis.setTimeout = (run, ms) => {
    // Browsers would not wait at all.
    assert.ok(!(ms >= 2 ** 31), `${ms}`);
    clock.timers.set(clock.next, { run, due: clock.now + (ms ?? 0) });
    return clock.next++;
  };
  globalThis.clearTimeout = (number) => void clock.timers.delete(number);
  globalThis.addEventListener = listen;
  globalThis.document = { hidden: false, addEventListener: listen };
  Object.assign(globalThis, { innerWidth: SCREEN.width, innerHeight: SCREEN.height });
  globalThis.IntersectionObserver = class {
    constructor(callback, settings) {
      [this.callback, this.settings, this.elements] = [callback, settings, new Set()];
      observer = this;
    }
    observe(element) { this.elements.add(element); }
    unobserve(element) { this.elements.delete(element); }
  };
  globalThis.fetch = (url, init) => new Promise((resolve, reject) => {
    const body = init.body && JSON.parse(init.body);
    const answer = (status, json, headers = {}) => resolve({
      status, ok: status === 200, headers: new Headers(headers), json: async () => json ?? JSON.parse('<html>'),
    });
    const take = () => answer(200, { results: body.postIds.map((postId) => ({ postId, status: 'counted', viewsCount: 7 })) });
    requests.push({ url, init, ids: body?.postIds, answer, take, lose: () => reject(new TypeError('lost')) });
  });

  const { createViews } = await import(MODULE);
  const views = createViews({
    url: 'https://views.example/', token: 't', onCounts: (counts) => told.push(counts),
    onError: (error, lost) => errors.push([error?.message, ...lost]), ...options,
  });

  /** Lets everything that needs no time happen. */
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return {
    views, requests, told, errors, thrown, settle, observer: () => observer,
    /** Shows a part of an element: how many pixels of its height, from its upper end. */
    show(element, height, visible, width = SCREEN.width) {
      observer.callback([{
        target: element, rootBounds: SCREEN,
        boundingClientRect: { width, height }, intersectionRect: { width: visible > 0 ? width : 0, height: visible },
      }]);
    },
    async wait(ms) {
      const end = clock.now + ms;
      for (;;) {
        await settle();
        const [number, timer] = [...clock.timers].filter(([, { due }]) => due <= end).sort((a, b) => a[1].due - b[1].due)[0] ?? [];
        if (!timer) break;
        clock.timers.delete(number);
        clock.now = Math.max(clock.now, timer.due);
        try {
          timer.run();
        } catch (error) {
          thrown.push(error.message);
        }
      }
      clock.now = end;
    },
    async hide(hidden = true) {
      document.hidden = hidden;
      listeners.visibilitychange.forEach((listener) => listener());
      await settle();
    },
    async close() {
      listeners.pagehide.forEach((listener) => listener());
      await settle();
    },
  };
}

test('the module has 5 KB at most and imports nothing', () => {
  assert.ok(statSync(MODULE).size <= 5000, `${statSync(MODULE).size} bytes`);
  assert.doesNotMatch(readFileSync(MODULE, 'utf8'), /\b(import|require)\b/);
});

test('a post is seen when half of it was visible for a second', async () => {
  const { views, show, wait, requests } = await page();
  const [half, less, left] = [{}, {}, {}];
  [half, less, left].forEach((element, number) => views.observe(element, `p${number}`));
  show(half, 600, 300);
  show(less, 600, 290);
  show(left, 600, 600);
  await wait(999);
  show(left, 600, 100);
  await wait(3001);
  assert.deepEqual(requests.map(({ ids }) => ids), [['p0']]);
  show(left, 600, 600);
  await wait(999);
  show(left, 600, 0);
  show(left, 600, 400);
  await wait(999);
  requests[0].take();
  await wait(10_000);
  assert.deepEqual(requests[1].ids, ['p2']);
});

test('of what is taller than the screen, half of the screen is enough', async () => {
  for (const screens of [1.1, 2, 3.7, 10, 100]) {
    const { views, show, wait, requests, observer } = await page();
    const [element, height] = [{}, screens * SCREEN.height];
    views.observe(element, 'tall');
    show(element, height, SCREEN.height / 2 - 10);
    await wait(5000);
    assert.equal(requests.length, 0, `${screens}`);
    show(element, height, SCREEN.height / 2);
    await wait(5000);
    assert.equal(requests.length, 1, `${screens}`);
    // The observer calls again between half of the screen and all of it, so that this is noticed at all.
    const visible = (part) => part * Math.min(height, SCREEN.height) / height;
    assert.ok(observer().settings.threshold.some((step) => step >= visible(0.5) - 1e-9 && step <= visible(0.8)), `${screens}`);
  }
});

test('a hidden page sees nothing', async () => {
  const { views, show, wait, hide, requests } = await page();
  const element = {};
  views.observe(element, 'p');
  show(element, 100, 100);
  await wait(900);
  await hide();
  await wait(10_000);
  await hide(false);
  await wait(999);
  assert.equal(requests.length, 0);
  await wait(3001);
  assert.deepEqual(requests[0].ids, ['p']);
});

test('an element that is forgotten in time is not seen, and one that is given another post shows that one', async () => {
  const { views, show, wait, requests, observer } = await page();
  const [gone, reused] = [{}, {}];
  views.observe(gone, 'gone');
  views.observe(reused, 'before');
  show(gone, 100, 100);
  show(reused, 100, 100);
  await wait(500);
  views.unobserve(gone);
  views.unobserve({});
  views.observe(reused, 'after');
  show(gone, 100, 100);
  show(reused, 100, 100);
  await wait(5000);
  assert.deepEqual(requests[0].ids, ['after']);
  assert.equal(observer().elements.size, 0);
});

test('posts are gathered, at most a hundred in a request, each once', async () => {
  const { views, wait, requests, told } = await page();
  for (let number = 0; number < 250; number++) views.seen(number);
  views.seen('7');
  await wait(2999);
  assert.equal(requests.length, 0);
  await wait(1);
  assert.equal(requests.length, 1, 'one at a time');
  for (const request of [0, 1, 2]) {
    requests[request].take();
    await wait(0);
    views.seen(7);
  }
  assert.deepEqual(requests.map(({ ids }) => ids.length), [100, 100, 50]);
  assert.equal(new Set(requests.flatMap(({ ids }) => ids)).size, 250);
  assert.deepEqual(Object.keys(told[2]).length, 50);
  assert.equal(told[0][0], 7);
  await wait(100_000);
  assert.equal(requests.length, 3);
  const { url, init } = requests[0];
  assert.equal(url, 'https://views.example/posts/views-batch');
  assert.deepEqual([init.method, init.keepalive, init.credentials], ['POST', true, 'omit']);
  assert.deepEqual(init.headers, { authorization: 'Bearer t' });
});

test('what was not taken is sent again, later each time, and not before the server wants it', async () => {
  const { views, wait, requests, errors } = await page();
  views.seen('a');
  await wait(3000);
  requests[0].answer(503, {}, { 'retry-after': '1' });
  await wait(999);
  assert.equal(requests.length, 1);
  views.seen('b');
  await wait(1);
  assert.deepEqual(requests[1].ids, ['a', 'b']);
  requests[1].lose();
  await wait(999);
  assert.equal(requests.length, 2);
  await wait(1001);
  requests[2].answer(429, {}, { 'retry-after': '30' });
  await wait(29_999);
  assert.equal(requests.length, 3);
  await wait(1);
  // An answer that is cut off may have been a success: sent again, it counts once.
  requests[3].answer(200);
  await wait(8000);
  requests[4].answer(503, {}, { 'retry-after': 'Thu, 26 Nov 2026 17:00:00 GMT' });
  for (let number = 5; number < 20; number++) {
    await wait(60_000);
    assert.deepEqual(requests[number].ids, ['a', 'b'], 'a minute at most');
    requests[number].lose();
  }
  await wait(60_000);
  requests[20].take();
  await wait(1_000_000);
  assert.equal(requests.length, 21);
  assert.equal(errors.length, 20);
  assert.deepEqual(errors[0], ['views: 503']);
});

test('an id that is none is told at once and costs the others nothing', async () => {
  const { views, wait, requests, errors } = await page();
  for (const id of ['a', 'wrong one', 7, 'x'.repeat(64), 'x'.repeat(65), '', 'a,b', 1.5, 'я']) views.seen(id);
  await wait(3000);
  assert.deepEqual(requests[0].ids, ['a', '7', 'x'.repeat(64)]);
  assert.deepEqual(errors.map(([, lost]) => lost), ['wrong one', 'x'.repeat(65), '', 'a,b', '1.5', 'я']);
  requests[0].take();
  views.seen('wrong one');
  await wait(100_000);
  assert.deepEqual([requests.length, errors.length], [1, 6]);
});

test('a server that takes fewer at once is sent fewer, and one that takes nothing for now is left alone', async () => {
  const { views, wait, settle, requests, errors } = await page();
  const ids = Array.from({ length: 100 }, (_, number) => `${number}`);
  ids.forEach(views.seen);
  await wait(3000);
  requests[0].answer(400, {});
  await wait(0);
  requests[1].take();
  await wait(0);
  requests[2].take();
  await wait(0);
  assert.deepEqual(requests.map(({ ids }) => ids.length), [100, 50, 50]);
  const counts = views.counts(ids);
  for (const half of [3, 4]) {
    await settle();
    requests[half].answer(200, { views: {} });
  }
  assert.deepEqual(await counts, {});
  // As it is where the browser has two cookies of one name.
  ['a', 'b', 'c'].forEach(views.seen);
  await wait(3000);
  for (const number of [5, 6, 7, 8]) {
    requests[number].answer(400, {});
    await wait(2000);
  }
  assert.deepEqual(requests.slice(5, 9).map(({ ids }) => ids), [['a', 'b', 'c'], ['a'], ['a'], ['a']]);
  for (const number of [9, 10, 11]) {
    await wait(10_000);
    requests[number].take();
  }
  assert.deepEqual(requests.slice(9).map(({ ids }) => ids), [['a'], ['b'], ['c']]);
  assert.ok(errors.every((error) => error.length === 1), 'nothing is lost');
});

test('what a browser counts its time with has room for every wait', async () => {
  for (const pause of ['99999999999', '1e400', '-5', 'soon']) {
    const { views, wait, requests } = await page();
    views.seen('a');
    await wait(3000);
    requests[0].answer(503, {}, { 'retry-after': pause });
    await wait(499);
    assert.equal(requests.length, 1, pause);
    await wait(1e9);
    assert.equal(requests.length, 2, pause);
  }
});

test('what is empty still is not seen until it is filled', async () => {
  const { views, show, wait, requests } = await page();
  const [empty, narrow] = [{}, {}];
  views.observe(empty, 'empty');
  views.observe(narrow, 'narrow');
  show(empty, 0, 0);
  show(narrow, 100, 100, 0);
  await wait(10_000);
  assert.equal(requests.length, 0);
  show(empty, 300, 200);
  await wait(5000);
  assert.deepEqual(requests[0].ids, ['empty']);
});

test('when the page goes, everything is sent at once', async () => {
  const { views, wait, hide, close, requests } = await page();
  for (let number = 0; number < 100; number++) views.seen(number);
  await wait(3000);
  for (let number = 100; number < 350; number++) views.seen(number);
  await hide();
  await close();
  assert.deepEqual(requests.map(({ ids }) => ids.length), [100, 100, 100, 50]);
  assert.ok(requests.every(({ init }) => init.keepalive));
  requests[1].lose();
  requests[2].take();
  requests[3].take();
  requests[0].take();
  await hide(false);
  await wait(2000);
  assert.deepEqual(requests[4].ids, requests[1].ids, 'what the browser did not send comes when the page is back');
  requests[4].take();
  await wait(100_000);
  assert.equal(requests.length, 5);
});

test('a token is asked for once, and again when it was refused', async () => {
  const tokens = ['old', 'new', 'newer'];
  let asked = 0;
  const { views, wait, requests } = await page({ token: async () => tokens[asked++] });
  views.seen('a');
  await wait(3000);
  requests[0].take();
  views.seen('b');
  await wait(3000);
  requests[1].answer(401, {});
  await wait(0);
  assert.deepEqual(requests[2].ids, ['b']);
  requests[2].answer(401, {});
  await wait(0);
  assert.equal(requests.length, 3, 'and then it waits');
  await wait(1000);
  requests[3].answer(401, {});
  await wait(0);
  requests[4].take();
  await wait(100_000);
  const sent = requests.map(({ init }) => init.headers.authorization);
  assert.deepEqual(sent, ['old', 'old', 'new', 'new', 'newer'].map((token) => `Bearer ${token}`));
});

test('a token that cannot be had loses nothing', async () => {
  let asked = 0;
  const { views, wait, requests, errors } = await page({
    token: () => {
      if (asked++ < 3) return Promise.reject(asked === 3 ? undefined : new Error('logged out'));
      return asked > 4 ? 't' : null;
    },
  });
  views.seen('a');
  await wait(3000);
  await wait(5000);
  // It was asked for as soon as there was something to send, too.
  assert.deepEqual(errors, [['logged out'], [undefined]]);
  assert.deepEqual([requests[0].ids, requests[0].init.headers], [['a'], {}]);
  requests[0].answer(401, {});
  await wait(0);
  assert.equal(requests[1].init.headers.authorization, 'Bearer t');
  requests[1].take();
});

test('with cookies there is no header that would need a preflight', async () => {
  const { views, wait, requests } = await page({ token: undefined, cookies: true, url: '' });
  views.seen('a');
  await wait(3000);
  const { url, init } = requests[0];
  assert.deepEqual([url, init.credentials, init.headers, typeof init.body], ['/posts/views-batch', 'include', {}, 'string']);
  requests[0].answer(401, {});
  await wait(0);
  assert.equal(requests.length, 1);
});

test('counts of many posts come together, with a token only where reads need one', async () => {
  const { views, settle, wait, requests, told } = await page();
  const ids = Array.from({ length: 150 }, (_, number) => number);
  const counts = views.counts([...ids, 0]);
  await settle();
  requests[0].answer(200, { views: { 0: 5 } });
  await settle();
  requests[1].answer(401, {});
  await settle();
  requests[2].answer(200, { views: { 149: 6 } });
  assert.deepEqual(await counts, { 0: 5, 149: 6 });
  await wait(0);
  assert.deepEqual(told, [{ 0: 5, 149: 6 }]);
  const [first, second, again] = requests;
  assert.equal(first.url, `https://views.example/posts/views?ids=${ids.slice(0, 100).join('%2C')}`);
  assert.deepEqual([first.init.headers, second.init.headers], [{}, {}]);
  assert.deepEqual([again.url, again.init.headers], [second.url, { authorization: 'Bearer t' }]);
  const failing = views.counts([1]);
  await settle();
  requests[3].answer(503, {});
  await assert.rejects(failing, /503/);
});

test('what was seen before is asked for with the token', async () => {
  const { views, settle, requests } = await page();
  const viewed = views.viewed(['a', 'b']);
  await settle();
  const { url, init } = requests[0];
  assert.deepEqual([url, init.headers], ['https://views.example/posts/viewed?ids=a%2Cb', { authorization: 'Bearer t' }]);
  requests[0].answer(200, { viewed: { a: true, b: false } });
  assert.deepEqual(await viewed, { a: true, b: false });
});

test('a callback that throws stops nothing', async () => {
  const { views, wait, requests, thrown } = await page({ onCounts: () => { throw new Error('from the page'); } });
  views.seen('a');
  await wait(3000);
  requests[0].take();
  await wait(0);
  views.seen('b');
  await wait(3000);
  assert.deepEqual(requests[1].ids, ['b']);
  requests[1].take();
  await wait(0);
  assert.deepEqual(thrown, ['from the page', 'from the page']);
});

test('a token is there when the page goes at once, and is asked for once by all that need it', async () => {
  let asked = 0;
  const { views, wait, hide, settle, requests } = await page({
    token: async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      return `t${++asked}`;
    },
  });
  for (let number = 0; number < 250; number++) views.seen(number);
  await wait(200);
  await hide();
  assert.deepEqual(requests.map(({ init }) => init.headers.authorization), ['Bearer t1', 'Bearer t1', 'Bearer t1']);
  requests.forEach(({ answer }) => answer(401, {}));
  await settle();
  await wait(200);
  assert.deepEqual(requests.slice(3).map(({ init }) => init.headers.authorization), ['Bearer t2', 'Bearer t2', 'Bearer t2']);
  assert.equal(new Set(requests.slice(3).flatMap(({ ids }) => ids)).size, 250);
});
