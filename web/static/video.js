import { ask, attempt, listen, refresh } from './server.js';

const details = document.getElementById('details');
const { video } = details.dataset;
const path = `/api/v1/videos/${video}`;
const find = (selector) => details.querySelector(selector);
const update = () => attempt(() => refresh(details, `/videos/${video}/details`).then((swapped) => swapped && begin()));

// Sentences

async function correct(position, text) {
  if (await attempt(() => ask('PUT', `${path}/sentences/${position}`, { text }))) await update();
}

function edit(open) {
  find('#editor').hidden = !open;
  find('#sentence').hidden = open;
  find('#edit').hidden = open;
  if (open) find('#text').select();
  else find('#edit').focus();
}

details.addEventListener('submit', (event) => {
  event.preventDefault();
  correct(0, find('#text').value).then(() => find('#edit')?.focus());
});
details.addEventListener('keydown', (event) => {
  if (event.target.id === 'text' && event.key === 'Escape') edit(false);
  if (event.target.id === 'text' && event.key === 'Enter' && !event.shiftKey) {
    event.preventDefault();
    find('#editor').requestSubmit();
  }
  if (event.target.matches('.bare') && event.key === 'Enter') event.target.blur();
});
details.addEventListener('change', (event) => {
  if (event.target.matches('.bare')) {
    correct(event.target.closest('li').dataset.position, event.target.value || null);
  }
  if (event.target.id === 'which') choose(event.target.value);
});

// What is clicked

const clicks = {
  '#edit': () => edit(true),
  '#keep': () => edit(false),
  '#original': () => correct(0, null),
  '.take': (button) => correct(0, button.dataset.text),
  '.seek, .frame, .segment': (button) => seek(Number(button.dataset.time)),
  '.word': hold,
  '#cancel': () => attempt(() => ask('POST', `${path}/cancel`)),
  '#retry': () => attempt(() => ask('POST', `${path}/retry`)),
  '#label': () => attempt(() => ask('POST', `${path}/label`)),
  '#delete': () => document.getElementById('sure').showModal(),
};
details.addEventListener('click', (event) => {
  for (const [selector, act] of Object.entries(clicks)) {
    const target = event.target.closest(selector);
    if (target) act(target);
  }
});
document.getElementById('sure').addEventListener('close', async (event) => {
  if (event.target.returnValue !== 'yes') return;
  if (await attempt(() => ask('DELETE', path))) location.assign('/');
});

function seek(time) {
  const player = find('#player');
  if (!player) return;
  player.currentTime = time;
  player.play().catch(() => {}); // where it cannot play, the page says so
  player.scrollIntoView({ block: 'nearest' });
}

// Where each word looked

let attention = [];
let held = null;

function choose(number) {
  details.querySelectorAll('.words').forEach((words) => {
    words.hidden = words.dataset.candidate !== String(number);
  });
  held?.setAttribute('aria-pressed', 'false');
  held = null;
  light(null);
}

function light(word) {
  const weights = word ? attention[word.closest('.words').dataset.candidate]?.[word.dataset.word] : null;
  details.querySelectorAll('.word').forEach((other) => other.classList.toggle('lit', other === word));
  const frames = [...details.querySelectorAll('.strip li')];
  const most = weights ? Math.max(1, ...weights.flat()) : 1;
  const sums = frames.map((_, n) => (weights?.[n] || []).reduce((sum, weight) => sum + weight, 0));
  const highest = Math.max(1, ...sums);
  frames.forEach((frame, n) => {
    frame.querySelectorAll('.regions i').forEach((region, place) => {
      region.style.opacity = weights ? 0.75 * (1 - Math.sqrt((weights[n]?.[place] || 0) / most)) : 0;
    });
    frame.querySelector('.level i').style.transform = `scaleX(${weights ? sums[n] / highest : 0})`;
  });
  if (!weights) return;
  const best = sums.indexOf(highest);
  const at = frames[best].querySelector('.small').textContent;
  find('#looked-at').textContent = `“${word.textContent}” looked most at ${at}: ${Math.round(highest / 10)} % of its attention.`;
}

function hold(word) {
  const was = held;
  was?.setAttribute('aria-pressed', 'false');
  held = was === word ? null : word;
  held?.setAttribute('aria-pressed', 'true');
  light(held);
}

for (const kind of ['mouseover', 'focusin']) {
  details.addEventListener(kind, (event) => {
    if (event.target.matches('.word')) light(event.target);
  });
}
for (const kind of ['mouseout', 'focusout']) {
  details.addEventListener(kind, (event) => {
    if (event.target.matches('.word')) light(held);
  });
}

// The timeline

const share = (seconds, tracks) => 100 * Math.min(1, seconds / tracks.dataset.end);

function lay() {
  const tracks = find('.tracks');
  tracks?.querySelectorAll('.track').forEach((track) => {
    track.querySelectorAll('.segment').forEach((segment, n) => {
      const [start, end] = [segment.dataset.time, segment.dataset.end].map((time) => share(time, tracks));
      segment.style.left = `${start}%`;
      segment.style.width = `${end - start}%`;
      segment.tabIndex = n ? -1 : 0; // a row of hundreds is one stop for Tab
    });
  });
  follow();
  showNow();
}

// Moves the playhead, as often as the screen is drawn while the video plays.
let nextFrame = 0;
function follow() {
  cancelAnimationFrame(nextFrame);
  const tracks = find('.tracks');
  const player = find('#player');
  if (!tracks || !player) return;
  find('.playhead').style.left = `${share(player.currentTime, tracks)}%`;
  if (!player.paused) nextFrame = requestAnimationFrame(follow);
}

// Marks in the legend what holds at this moment.
function showNow() {
  const now = find('#player')?.currentTime;
  const holds = [...details.querySelectorAll('.segment')].filter(({ dataset }) => dataset.time <= now && now < dataset.end);
  const colours = new Set(holds.map((segment) => segment.dataset.colour));
  details.querySelectorAll('.legend li').forEach((entry) => entry.classList.toggle('now', colours.has(entry.dataset.colour)));
}

details.addEventListener('keydown', (event) => {
  const segment = event.target.closest('.segment');
  if (!segment) return;
  const segments = [...segment.closest('.track').querySelectorAll('.segment')];
  const place = segments.indexOf(segment);
  const next = segments[{ ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: segments.length - 1 }[event.key]];
  if (!next) return;
  event.preventDefault();
  segment.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
details.addEventListener('input', (event) => {
  if (event.target.id !== 'zoom') return;
  const scroll = find('.timeline .scroll');
  find('.tracks').style.width = `${100 * event.target.value}%`;
  scroll.scrollLeft = find('.playhead').offsetLeft - scroll.clientWidth / 2;
});

function begin() {
  lay();
  const looked = find('#looked');
  attention = looked ? JSON.parse(looked.dataset.attention) : [];
  held = null;
  details.querySelectorAll('.regions').forEach((regions) => {
    regions.style.gridTemplateColumns = `repeat(${regions.dataset.grid || 1}, 1fr)`;
  });
  const player = find('#player');
  if (!player) return;
  const fail = () => { find('#unplayable').hidden = false; };
  player.addEventListener('error', fail);
  player.addEventListener('loadedmetadata', () => { if (!player.videoWidth) fail(); });
  if (player.error) fail();
  player.addEventListener('play', follow);
  player.addEventListener('timeupdate', () => {
    if (player.paused) follow();
    showNow();
    const items = [...details.querySelectorAll('.stretches li')];
    const now = items.findLast((item) => item.querySelector('.seek').dataset.time <= player.currentTime);
    items.forEach((item) => item.classList.toggle('now', item === now));
  });
}

begin();
const start = /^#t=([\d.]+)$/.exec(location.hash);
if (start) find('#player')?.addEventListener('loadedmetadata', (event) => { event.target.currentTime = start[1]; });
listen((topic, subject, state) => {
  if (subject !== video) return;
  const timeline = find('#timeline');
  if (topic === 'label' && timeline) {
    // Apart from the rest: the video may be playing, or a sentence being corrected.
    attempt(() => refresh(timeline, `/videos/${video}/timeline`).then((swapped) => swapped && lay()));
  }
  if (topic !== 'video') return;
  if (state === 'deleted') location.assign('/');
  else if (state !== 'corrected' || !document.activeElement?.matches('.bare, #text')) update();
});
