// Stretches arranged: borders moved, split, merged, added, deleted; and undo. The tools stand under
// the stretch that was opened last; borders are sliders, and the video shows where they are.

import { ask, attempt } from './server.js';

let page;
let player;
let path;
let update; // swaps what the server shows differently now
let saved; // gives a promise: what was typed into a stretch is kept
let opened = null; // {position, focus: an id}
let adding = null; // {start, end}
let timer = 0;

const find = (selector) => page.querySelector(selector);
const list = () => find('.stretches');
const rows = () => [...page.querySelectorAll('.stretches > li')];
const row = () => opened && rows()[opened.position - 1];
const number = (element, name) => Number(element.dataset[name]);
const now = () => player?.currentTime ?? 0;
const duration = () => number(list(), 'end') || player?.duration || 0;

// `1:02.3`
function moment(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = String(Math.floor(tenths / 10) % 60).padStart(2, '0');
  return `${Math.floor(tenths / 600)}:${rest}.${tenths % 10}`;
}

// Does something to the stretch that is open, then opens `position` again, with the focus at an id.
async function change(method, more, json, position = opened.position, focus = document.activeElement?.id) {
  await saved();
  if (!row()) return;
  const was = number(row(), 'start');
  const place = `${path}/sentences/${opened.position}${more}`;
  const isDelete = method === 'DELETE';
  const done = await attempt(() => ask(method, isDelete ? `${place}?was=${was}` : place, isDelete ? undefined : { was, ...json }));
  if (done) opened = position && { position, focus };
  await update();
  reopen(); // also where nothing was swapped: what was refused is shown as it stands
  if (done && !position) (rows()[0]?.querySelector('.arrange') ?? find('#add'))?.focus();
}

const acts = {
  begins: (at) => change('PATCH', '', { start: at }),
  ends: (at) => change('PATCH', '', { end: at }),
  split: () => change('POST', '/split', { at: now() }, opened.position + 1, `stretch-${opened.position + 1}`),
  merge: () => change('POST', '/merge', {}),
  'drop-stretch': () => change('DELETE', '', {}, null),
  undo: async () => {
    await attempt(() => ask('POST', `${path}/undo`));
    opened = null;
    await update();
    (find('#undo') ?? find('.arrange') ?? find('#edit'))?.focus();
  },
};

// The tools under the stretch that is open, as it stands; none where it is gone.
export function reopen() {
  find('.tools-of')?.remove();
  page.querySelectorAll('.arrange').forEach((button) => button.setAttribute('aria-expanded', 'false'));
  tick();
  const open = row();
  if (!open) { opened = null; return; }
  open.append(document.getElementById('tools').content.cloneNode(true));
  open.querySelector('.arrange').setAttribute('aria-expanded', 'true');
  const [before, after] = [open.previousElementSibling, open.nextElementSibling];
  const [start, end] = [number(open, 'start'), number(open, 'end')];
  const slide = (id, low, high, value) => {
    const slider = find(`#${id}`);
    // In whole tenths from the border, so that it stands exactly where it is.
    slider.min = value - Math.floor((value - low) * 10) / 10;
    slider.max = high;
    slider.value = value;
    show(slider);
  };
  slide('begins', before ? number(before, 'start') + 0.1 : 0, end - 0.1, start);
  slide('ends', start + 0.1, after ? number(after, 'end') - 0.1 : duration(), end);
  find('#merge').hidden = !after;
  tick();
  if (opened.focus) document.getElementById(opened.focus)?.focus({ preventScroll: true });
}

function show(slider) {
  slider.setAttribute('aria-valuetext', moment(slider.value));
  find(`#${slider.id}-at`).textContent = moment(slider.value);
}

// What depends on where the video is.
export function tick() {
  page?.querySelectorAll('[data-now]').forEach((element) => { element.textContent = moment(now()); });
  const open = row();
  const split = open && find('#split');
  if (split) split.disabled = now() < number(open, 'start') + 0.1 || now() > number(open, 'end') - 0.1;
}

function open(position, focus) {
  const isOpen = opened?.position === position;
  opened = isOpen ? null : { position, focus };
  reopen();
}

// From this moment to the end of the stretch, or of the gap, that it lies in.
function begin() {
  const start = Math.round(now() * 10) / 10;
  const around = rows().find((item) => number(item, 'start') <= start && start < number(item, 'end'));
  const next = rows().find((item) => number(item, 'start') > start);
  const end = around ? number(around, 'end') : next ? number(next, 'start') : duration();
  adding = { start, end };
  find('[data-from]').textContent = moment(start);
  find('[data-to]').textContent = moment(end);
  player?.pause();
  find('#adding').hidden = false;
  find('#add').hidden = true;
  find('#added').focus();
}

function forgo() {
  find('#adding').hidden = true;
  find('#added').value = '';
  find('#add').hidden = false;
  find('#add').focus();
  update();
}

async function save() {
  const text = find('#added').value;
  if (await attempt(() => ask('POST', `${path}/sentences`, { ...adding, text }))) forgo();
}

function press(event) {
  if (event.target.id === 'added') {
    const isEnter = event.key === 'Enter' && !event.shiftKey && !event.isComposing;
    if (event.key === 'Escape') forgo();
    if (isEnter) { event.preventDefault(); find('#adding').requestSubmit(); }
    return;
  }
  if (event.target.matches('textarea, input:not([type=range]), select') || event.target.closest('dialog')) return;
  if (event.key === 'z' && (event.ctrlKey || event.metaKey) && find('#undo')) {
    event.preventDefault();
    acts.undo();
  }
  if (event.key === 'Escape' && row()) {
    const button = row().querySelector('.arrange');
    open(opened.position);
    button.focus();
  }
  if (!row() || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = {
    '[': () => acts.begins(now()), ']': () => acts.ends(now()), s: acts.split, m: acts.merge, Delete: acts['drop-stretch'],
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// Begins to listen on a video's page; `player` may be null.
export function arrange(...given) {
  [page, player, path, update, saved] = given;
  page.addEventListener('click', ({ target }) => {
    const button = target.closest('button');
    if (!button) return;
    if (button.matches('.arrange')) open(number(button.closest('li'), 'position'), button.id);
    else if (button.id === 'add') begin();
    else if (button.id === 'forgo') forgo();
    else if (button.id in acts) acts[button.id]();
  });
  // Whatever is swapped, the focus stays where it was in what is open.
  page.addEventListener('focusin', ({ target }) => {
    if (opened) opened.focus = row()?.contains(target) ? target.id : null;
  });
  page.addEventListener('input', ({ target }) => {
    if (!target.matches('.border input')) return;
    show(target);
    if (player) { player.pause(); player.currentTime = target.value; }
  });
  page.addEventListener('change', ({ target }) => {
    if (!target.matches('.border input')) return;
    clearTimeout(timer); // of keys, the last counts
    timer = setTimeout(() => acts[target.id](Number(target.value)), 300);
  });
  page.addEventListener('submit', ({ target }) => { if (target.id === 'adding') save(); });
  document.addEventListener('keydown', press);
  player?.addEventListener('seeked', tick);
  tick();
}
