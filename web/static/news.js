// A shared worker: listens to the server's news for all tabs of a browser, which opens only six
// connections to a server. A tab sends 'leave' when it goes; all get `{topic, number, data}`, or
// `{topic: 'silent'}` where the news does not get through, for then they have to ask.

const SILENCE = 20; // seconds without a beat: something on the way holds the stream back
const root = location.pathname.slice(0, -'/static/news.js'.length);
const ports = new Set();
let source = null;
let last = null;
let timer = 0;
let isSilent = false;

const tell = (news) => ports.forEach((port) => port.postMessage(news));

function giveUp() {
  isSilent = true;
  source.close();
  tell({ topic: 'silent' });
}

function expect() {
  clearTimeout(timer);
  timer = setTimeout(giveUp, 1000 * SILENCE);
}

function open() {
  source = new EventSource(`${root}/events${last === null ? '' : `?after=${last}`}`);
  let failures = 0;
  for (const topic of ['video', 'label', 'preview', 'queue', 'model', 'beat']) {
    source.addEventListener(topic, (event) => {
      failures = 0;
      expect();
      last = Number(event.lastEventId) || last;
      tell({ topic, number: last, data: event.data });
    });
  }
  source.addEventListener('error', () => {
    failures += 1;
    if (source.readyState === EventSource.CLOSED || failures > 3) giveUp();
  });
  expect();
}

onconnect = ({ ports: [port] }) => {
  port.onmessage = () => ports.delete(port);
  ports.add(port);
  if (isSilent) port.postMessage({ topic: 'silent' });
  else if (!source) open();
};
