// Talks to the server: requests with the CSRF token, and news as it comes.

const token = document.querySelector('meta[name="csrf-token"]').content;
export const csrfHeaders = { 'X-CSRFToken': token };

export class Problem extends Error {
  constructor(status, body) {
    super(body.message || 'The server did not answer. Is it still running?');
    this.status = status;
    this.body = body;
  }
}

export async function ask(method, path, json) {
  const headers = { ...csrfHeaders };
  if (json !== undefined) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: json && JSON.stringify(json) });
  } catch {
    throw new Problem(0, {});
  }
  if (answer.status === 204) return null;
  const isJson = (answer.headers.get('Content-Type') || '').includes('json');
  const body = isJson ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Problem(answer.status, isJson ? body : {});
  return body;
}

export function tell(text) {
  const notice = document.createElement('p');
  notice.className = 'notice';
  notice.textContent = text;
  document.getElementById('notices').replaceChildren(notice);
  notice.scrollIntoView({ block: 'nearest' });
}

// Does something and says what went wrong, if it did.
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(error.message);
    return false;
  }
}

// Calls `onNews(topic, subject, state)` for all that changes after the page was made: by server-sent events,
// or by asking every two seconds where those do not get through.
export function listen(onNews) {
  let last = Number(document.querySelector('meta[name="last-event"]').content);
  let failures = 0;
  const hear = (topic, number, data) => {
    failures = 0;
    last = Number(number) || last;
    if (topic !== 'beat') onNews(topic, ...data.split(' '));
  };
  const poll = async () => {
    try {
      const news = await ask('GET', `/api/v1/events?after=${last}`);
      last = news.last;
      news.events.forEach((event) => onNews(event.topic, event.subject, event.state));
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // else the server is away; ask again
    }
    setTimeout(poll, 2000);
  };
  const source = new EventSource(`/events?after=${last}`);
  for (const topic of ['video', 'label', 'model', 'beat']) {
    source.addEventListener(topic, (event) => hear(topic, event.lastEventId, event.data));
  }
  source.addEventListener('error', () => {
    failures += 1;
    if (source.readyState === EventSource.CLOSED || failures > 3) {
      source.close();
      poll();
    }
  });
  addEventListener('pagehide', () => source.close());
}

// Swaps what an element holds for what the server says now, if that is something else; keeps the
// focus where it was. True if it swapped.
const shown = new WeakMap();
const asked = new WeakMap();
export async function refresh(element, path) {
  const number = (asked.get(element) || 0) + 1;
  asked.set(element, number);
  const html = await ask('GET', path);
  // No earlier answer overwrites a later one.
  if (html === shown.get(element) || asked.get(element) !== number) return false;
  shown.set(element, html);
  const focused = document.activeElement && element.contains(document.activeElement)
    ? document.activeElement.id : '';
  element.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
  return true;
}
