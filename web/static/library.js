import { ask, attempt, listen, loginLink, tell } from './server.js';
import { enqueue, Upload } from './upload.js';

const drop = document.getElementById('drop');
const uploads = document.getElementById('uploads');
const cards = document.getElementById('cards');
const spoken = document.getElementById('spoken');

// Uploads

function add(file) {
  const row = document.createElement('li');
  row.innerHTML = '<span class="name"></span><span class="muted small"></span><button type="button">Cancel</button><progress max="1" value="0"></progress><p class="error problem" hidden></p>';
  const [name, status, button, bar, problem] = row.children;
  name.textContent = file.name;
  bar.setAttribute('aria-label', `Upload of ${file.name}`);
  button.setAttribute('aria-label', `Cancel the upload of ${file.name}`);
  uploads.append(row);
  const refuse = (message, code) => {
    bar.hidden = true;
    problem.hidden = false;
    problem.textContent = `${message} `;
    if (code === 401) problem.append(loginLink());
    status.textContent = 'Refused';
    button.textContent = 'Close';
    button.setAttribute('aria-label', `Close the message about ${file.name}`);
    button.onclick = () => row.remove();
    spoken.textContent = `${file.name}: ${message}`;
  };
  const limit = Number(drop.dataset.maxSize);
  if (!file.size) { refuse('This file is empty. Copy or download it again.'); return; }
  if (file.size > limit) { refuse('This file is too large. Cut or convert it first.'); return; }
  const upload = new Upload(file, Number(drop.dataset.piece), (share, state, message, code) => {
    bar.value = share || 0;
    status.textContent = {
      queued: 'Waiting', sending: `${Math.floor(100 * share)} %`, waiting: message, done: 'Uploaded',
    }[state] || '';
    if (state === 'failed') refuse(message, code);
    if (state === 'gone') row.remove();
    if (state === 'done') {
      spoken.textContent = `${file.name} is uploaded and will be captioned.`;
      row.remove();
      show(upload.id);
    }
  });
  button.onclick = () => attempt(() => upload.cancel());
  enqueue(upload);
}

document.getElementById('files').addEventListener('change', (event) => {
  [...event.target.files].forEach(add);
  event.target.value = '';
});
let depth = 0; // dragging over a child leaves the parent
addEventListener('dragenter', (event) => { event.preventDefault(); depth += 1; drop.classList.add('over'); });
addEventListener('dragleave', () => { depth -= 1; if (depth <= 0) drop.classList.remove('over'); });
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  depth = 0;
  drop.classList.remove('over');
  [...event.dataTransfer.files].forEach(add);
});
addEventListener('beforeunload', (event) => {
  if (uploads.querySelector('progress:not([hidden])')) event.preventDefault();
});

// Cards, as they change

const asked = new Map(); // by video: how often, so that no earlier answer overwrites a later one
const cardOf = (video) => cards.querySelector(`[data-video="${video}"]`);

async function show(video) {
  const number = (asked.get(video) || 0) + 1;
  asked.set(video, number);
  let html;
  try {
    html = await ask('GET', `/videos/${encodeURIComponent(video)}/card`);
  } catch (error) {
    if (error.status !== 404) throw error;
    cardOf(video)?.remove();
    return;
  }
  if (asked.get(video) !== number) return;
  const template = document.createElement('template');
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  const old = cardOf(video);
  if (old) {
    fresh.querySelector('input').checked = old.querySelector('input').checked;
    const hits = old.querySelector('.hits');
    if (hits) fresh.querySelector('.text').append(hits);
    old.replaceWith(fresh);
  } else {
    cards.hidden = false;
    document.querySelector('.steps')?.remove();
    drop.classList.remove('tall');
    cards.prepend(fresh);
  }
  if (fresh.dataset.state === 'done') {
    spoken.textContent = `${fresh.querySelector('.name').textContent}: ${fresh.querySelector('.sentence').textContent.trim()}`;
  }
}

if (cards) {
  listen((topic, video, state) => {
    if (topic === 'video' && state === 'deleted') cardOf(video)?.remove();
    else if (topic === 'video' && (asked.has(video) || cardOf(video))) show(video);
  });
}

// Labels of moments

document.getElementById('relabel')?.addEventListener('click', () => attempt(async () => {
  const { count } = await ask('POST', '/api/v1/relabel');
  document.getElementById('unlabelled').remove();
  tell(`${count} ${count === 1 ? 'video is' : 'videos are'} labelled, one after the other.`);
}));

// Choosing several

const all = document.getElementById('all');
if (all) {
  const selected = document.getElementById('selected');
  const total = selected.textContent;
  const ticks = () => [...cards.querySelectorAll('input[name=id]')];
  const count = () => {
    const number = ticks().filter((tick) => tick.checked).length;
    selected.textContent = number ? `${number} selected` : total;
    all.checked = number > 0 && number === ticks().length;
    all.indeterminate = number > 0 && !all.checked;
  };
  all.addEventListener('change', () => { ticks().forEach((tick) => { tick.checked = all.checked; }); count(); });
  document.getElementById('selection').addEventListener('change', (event) => {
    if (event.target !== all) count();
  });
  document.getElementById('delete').addEventListener('click', (event) => {
    const number = ticks().filter((tick) => tick.checked).length;
    if (!number) {
      event.preventDefault();
      selected.textContent = 'Select videos first';
    } else if (!confirm(`Delete ${number} ${number === 1 ? 'video' : 'videos'} and all that is known of them?`)) {
      event.preventDefault();
    }
  });
  const find = document.getElementById('find');
  find.addEventListener('change', (event) => { if (event.target.matches('select')) find.requestSubmit(); });
}
