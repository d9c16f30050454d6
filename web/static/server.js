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

// Calls `onNews(topic, subject, state)` for all that changes after the page was made: by
// server-sent events, or by asking every two seconds where those do not get through. A browser
// opens only six connections to a server, so a hidden tab holds none, and catches up when shown.
const SILENCE = 20; // seconds without a beat: something on the way holds the stream back
export function listen(onNews) {
  let last = Number(meta('last-event'));
  let failures = 0;
  let polls = false;
  let source = null;
  let timer = 0;
  let round = 0;
  const hear = (topic, number, data) => {
    failures = 0;
    last = Number(number) || last;
    expect();
    if (topic !== 'beat') onNews(topic, ...data.split(' '));
  };
  const expect = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { polls = true; stop(); start(); }, 1000 * SILENCE);
  };
  const poll = async (mine) => {
    try {
      const news = await ask('GET', `/api/v1/events?after=${last}`);
      last = news.last;
      news.events.forEach((event) => onNews(event.topic, event.subject, event.state));
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // else the server is away; ask again
    }
    if (mine === round) timer = setTimeout(poll, 2000, mine);
  };
  const stop = () => {
    clearTimeout(timer);
    round += 1;
    source?.close();
    source = null;
  };
  const start = () => {
    if (document.hidden || source) return;
    if (polls) { stop(); poll(round); return; }
    source = new EventSource(`${root}/events?after=${last}`);
    for (const topic of ['video', 'label', 'model', 'beat']) {
      source.addEventListener(topic, (event) => hear(topic, event.lastEventId, event.data));
    }
    source.addEventListener('error', () => {
      failures += 1;
      if (source?.readyState !== EventSource.CLOSED && failures <= 3) return;
      polls = true;
      stop();
      start();
    });
    expect();
  };
  document.addEventListener('visibilitychange', () => { stop(); start(); });
  addEventListener('pagehide', stop);
  addEventListener('pageshow', start);
  start();
}

// Parts of a page are elements with an id and `data-part`. `refresh` swaps what those hold that
// the server now shows differently; the focus stays where it was.
const shown = new WeakMap();
for (const part of document.querySelectorAll('[data-part]')) shown.set(part, part.innerHTML);
let asked = 0;

// `isHeld(part)`: leave this one alone. Returns the ids of what was swapped and of what was held.
export async function refresh(isHeld = () => false) {
  asked += 1;
  const number = asked;
  const template = document.createElement('template');
  template.innerHTML = await ask('GET', here());
  const result = { swapped: [], held: [] };
  if (asked !== number) return result; // no earlier answer overwrites a later one
  for (const fresh of template.content.querySelectorAll('[data-part]')) {
    const part = document.getElementById(fresh.id);
    if (!part || shown.get(part) === fresh.innerHTML) continue;
    if (isHeld(part)) { result.held.push(part.id); continue; }
    shown.set(part, fresh.innerHTML);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : '';
    part.replaceChildren(...fresh.childNodes);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    result.swapped.push(part.id);
  }
  return result;
}
