// Talks to the server: requests with the CSRF token, and news as it comes.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? '';
export const root = meta('root'); // where a proxy has put the page; all paths below count from it
let token = meta('csrf-token');

export class Problem extends Error {
  constructor(status, body) {
    super(body.message || 'The server did not answer. Is it still running?');
    this.status = status;
    this.body = body;
  }
}

// Headers that every request needs which changes something.
export const csrfHeaders = () => ({ 'X-CSRFToken': token });

async function send(method, path, json) {
  const headers = csrfHeaders();
  if (json !== undefined) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(root + path, { method, headers, body: json && JSON.stringify(json) });
  } catch {
    throw new Problem(0, {});
  }
  if (answer.status === 204) return null;
  if (answer.redirected) throw new Problem(401, { message: 'You are logged out.' });
  const isJson = (answer.headers.get('Content-Type') || '').includes('json');
  const body = isJson ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Problem(answer.status, isJson ? body : {});
  return body;
}

// A token that no longer fits (another login, a server that was set up anew) is got again, once.
export async function withToken(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Problem) || error.body.code !== 'old_page') throw error;
    ({ token } = await send('GET', '/csrf-token'));
    return work();
  }
}

export const ask = (method, path, json) => withToken(() => send(method, path, json));

// Tells something, at the top of the page, until it is closed.
export function tell(text, kind = 'news') {
  const notice = document.createElement('div');
  notice.className = `notice row ${kind}`;
  const words = document.createElement('span');
  words.className = 'grow';
  words.textContent = text;
  const close = document.createElement('button');
  close.type = 'button';
  close.className = 'link';
  close.textContent = 'Close';
  close.onclick = () => notice.remove();
  notice.append(words, close);
  document.getElementById('notices').replaceChildren(notice);
  return notice;
}

const here = () => location.pathname.slice(root.length) + location.search;

export function loginLink() {
  const link = document.createElement('a');
  link.href = `${root}/login?next=${encodeURIComponent(here())}`;
  link.textContent = 'Log in';
  return link;
}

// Does something and says what went wrong, if it did; what went wrong before is forgotten.
export async function attempt(work) {
  try {
    await work();
    document.querySelector('#notices .failure')?.remove();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const notice = tell(error.message, 'failure');
    if (error.status === 401) notice.firstChild.after(loginLink());
    return false;
  }
}

// Calls `onNews(topic, subject, state)` for all that changes after the page was made: as a worker
// tells it to all tabs, or by asking every two seconds, while the tab is seen, where it cannot.
export function listen(onNews) {
  let last = Number(meta('last-event'));
  let timer = 0;
  let polls = false;
  let port = null;
  const hear = (topic, number, subject, state) => {
    if (number <= last) return;
    last = number;
    onNews(topic, subject, state);
  };
  const catchUp = async () => {
    try {
      const news = await ask('GET', `/api/v1/events?after=${last}`);
      // Also what came by the worker meanwhile: told twice does no harm, unheard does.
      last = Math.max(last, news.last);
      news.events.forEach((event) => onNews(event.topic, event.subject, event.state));
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // else the server is away; ask again
    }
  };
  const poll = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    await catchUp();
    timer = setTimeout(poll, 2000);
  };
  const start = () => {
    if (polls || typeof SharedWorker === 'undefined') {
      polls = true;
      poll();
      return;
    }
    ({ port } = new SharedWorker(new URL('news.js', import.meta.url)));
    let isHeard = false;
    port.onmessage = ({ data: { topic, number, data } }) => {
      if (topic === 'silent') { polls = true; poll(); }
      // What happened between the page and the worker's first word.
      else if (!isHeard) { isHeard = true; catchUp(); }
      else if (topic !== 'beat') hear(topic, number, ...data.split(' '));
    };
    catchUp(); // with what happened before the worker listens
  };
  document.addEventListener('visibilitychange', () => { if (polls) poll(); });
  addEventListener('pagehide', () => { clearTimeout(timer); port?.postMessage('leave'); });
  addEventListener('pageshow', (event) => { if (event.persisted) start(); });
  start();
}

// Parts of a page are elements with an id and `data-part`. `refresh` swaps what those hold that
// the server now shows differently; the focus stays where it was.
const shown = new WeakMap();
for (const part of document.querySelectorAll('[data-part]')) {
  shown.set(part, part.innerHTML);
  if ('keyed' in part.dataset) for (const child of part.children) shown.set(child, child.outerHTML);
}
let latest = null;

// What `part` will hold; of a keyed one, children with the same id that did not change stay.
function successors(part, fresh) {
  if (!('keyed' in part.dataset)) return fresh.childNodes;
  return [...fresh.children].map((child) => {
    const old = document.getElementById(child.id);
    if (old && shown.get(old) === child.outerHTML) return old;
    shown.set(child, child.outerHTML);
    const tick = old?.querySelector('input[type=checkbox]');
    if (tick) child.querySelector('input[type=checkbox]').checked = tick.checked;
    return child;
  });
}

// `isHeld(part)`: leave this one alone. Returns the ids of what was swapped and of what was held, of
// the last call where several are under way: no earlier answer overwrites a later one.
export async function refresh(isHeld = () => false) {
  const mine = swap(isHeld, () => latest === mine);
  latest = mine;
  let last;
  let result;
  do {
    last = latest;
    result = await last;
  } while (last !== latest);
  return result;
}

async function swap(isHeld, isLatest) {
  const template = document.createElement('template');
  template.innerHTML = await ask('GET', here());
  const result = { swapped: [], held: [] };
  if (!isLatest()) return result;
  for (const fresh of template.content.querySelectorAll('[data-part]')) {
    const part = document.getElementById(fresh.id);
    if (!part || shown.get(part) === fresh.innerHTML) continue;
    if (isHeld(part)) { result.held.push(part.id); continue; }
    shown.set(part, fresh.innerHTML);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : '';
    part.replaceChildren(...successors(part, fresh));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    result.swapped.push(part.id);
  }
  return result;
}
