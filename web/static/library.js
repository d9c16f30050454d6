import { ask, attempt, listen, loginLink, refresh, tell } from './server.js';
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
    row.classList.toggle('queued', state === 'queued');
    status.textContent = {
      queued: 'Waiting', sending: `${Math.floor(100 * share)} %`, waiting: message, done: 'Uploaded',
    }[state] || '';
    if (state === 'failed') refuse(message, code);
    if (state === 'gone') row.remove();
    if (state === 'done') {
      spoken.textContent = `${file.name} is uploaded and will be captioned.`;
      row.remove();
      mine.add(upload.id);
      soon();
    }
  });
  button.onclick = () => attempt(() => upload.cancel());
  enqueue(upload);
}

// Of hundreds of files few rows are shown, and how many are still to come.
const uploading = document.getElementById('uploading');
const unfinished = () => [...uploads.children].filter((row) => row.querySelector('progress:not([hidden])'));
new MutationObserver(() => {
  const left = unfinished().length;
  uploading.hidden = left < 4;
  uploading.firstChild.textContent = `${left} files to upload`;
}).observe(uploads, { childList: true });
uploading.addEventListener('click', (event) => {
  // The last first, so that none begins that is about to be cancelled.
  if (event.target.matches('button')) unfinished().reverse().forEach((row) => row.querySelector('button').click());
});

// A file that was dropped, or what is in a folder and in those within it; of a folder's files only
// those that look like videos or pictures, for nobody chose the others.
const MEDIA = /\.(3gp|asf|avi|bmp|flv|gif|jpe?g|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|mxf|ogv|png|tiff?|ts|vob|webm|webp|wmv)$/i;
async function walk(entry, isWithin = false) {
  if (entry.isFile) {
    if (!isWithin || MEDIA.test(entry.name)) entry.file(add, () => tell(`${entry.name} cannot be read.`, 'failure'));
    return;
  }
  const reader = entry.createReader();
  const read = () => new Promise((done, fail) => { reader.readEntries(done, fail); });
  try {
    let some;
    let found = 0;
    do { // a hundred at a time
      some = await read();
      found += some.length;
      for (const child of some) await walk(child, true);
    } while (some.length);
    if (!found && !isWithin) tell(`The folder ${entry.name} is empty.`);
  } catch {
    tell(`The folder ${entry.name} cannot be read.`, 'failure');
  }
}

for (const id of ['files', 'folder']) {
  document.getElementById(id).addEventListener('change', (event) => {
    [...event.target.files].filter((file) => id === 'files' || MEDIA.test(file.name)).forEach(add);
    event.target.value = '';
  });
}
let depth = 0; // dragging over a child leaves the parent
addEventListener('dragenter', (event) => { event.preventDefault(); depth += 1; drop.classList.add('over'); });
addEventListener('dragleave', () => { depth -= 1; if (depth <= 0) drop.classList.remove('over'); });
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  depth = 0;
  drop.classList.remove('over');
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === 'file');
  // Before anything is waited for: afterwards the list is empty.
  const dropped = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  dropped.forEach(({ entry, file }) => (entry ? walk(entry) : add(file)));
});
addEventListener('beforeunload', (event) => {
  if (uploads.querySelector('progress:not([hidden])')) event.preventDefault();
});

// The library, as it changes: what this page would show if it were loaded now.

const mine = new Set(); // uploaded here, and not told of yet
let timer = 0;
const soon = () => { timer ||= setTimeout(update, 500); };

async function update() {
  timer = 0;
  await attempt(() => refresh());
  const { everything } = document.querySelector('#total > *').dataset;
  document.querySelectorAll('.when-empty').forEach((element) => { element.hidden = everything !== '0'; });
  document.querySelectorAll('.when-filled').forEach((element) => { element.hidden = everything === '0'; });
  drop.classList.toggle('tall', everything === '0');
  for (const video of mine) {
    const card = document.getElementById(`card-${video}`);
    if (card?.dataset.state !== 'done') continue;
    spoken.textContent = `${card.querySelector('.name').textContent}: ${card.querySelector('.sentence').textContent.trim()}`;
    mine.delete(video);
  }
  count();
}

listen((topic) => { if (!['model', 'preview'].includes(topic)) soon(); });

// The queue

for (const id of ['queue', 'cards']) {
  document.getElementById(id).addEventListener('click', (event) => {
    const { post } = event.target.dataset;
    if (post) attempt(() => ask('POST', post)).then(soon);
  });
}

// Labels of moments

document.getElementById('unlabelled').addEventListener('click', (event) => event.target.matches('button') && attempt(async () => {
  const { count } = await ask('POST', '/api/v1/relabel');
  tell(`${count} ${count === 1 ? 'video is' : 'videos are'} labelled, one after the other.`);
  soon();
}));

// Choosing several

const all = document.getElementById('all');
const selected = document.getElementById('selected');
const rest = document.getElementById('rest');
const { elements } = document.getElementById('selection');
const ticks = () => [...cards.querySelectorAll('input[name=id]')];
const chosen = () => ticks().filter((tick) => tick.checked);
const total = () => Number(document.querySelector('#total > *').dataset.total);
const number = () => (elements.all.value ? total() : chosen().length);

function count() {
  const shown = ticks().length;
  all.checked = shown > 0 && chosen().length === shown;
  all.indeterminate = !all.checked && chosen().length > 0;
  if (!all.checked) elements.all.value = '';
  document.getElementById('tagging').hidden = !number();
  selected.textContent = number() ? `${number()} selected` : '';
  rest.hidden = !all.checked || total() <= shown || Boolean(elements.all.value);
  rest.textContent = `Select all ${total()} on all pages`;
}

all.addEventListener('change', () => { ticks().forEach((tick) => { tick.checked = all.checked; }); count(); });
cards.addEventListener('change', count);
rest.addEventListener('click', () => { elements.all.value = '1'; count(); });

const sure = document.getElementById('sure');
document.getElementById('delete').addEventListener('click', (event) => {
  event.preventDefault();
  if (!number()) { selected.textContent = 'Select videos first'; return; }
  sure.querySelector('h2').textContent = `Delete ${number()} ${number() === 1 ? 'video' : 'videos'}?`;
  sure.showModal();
});
sure.addEventListener('close', () => { if (sure.returnValue === 'yes') document.getElementById('selection').submit(); });

// What is taken away: what is selected, else all that the search and the filter let through.
const taken = document.getElementById('export');
taken.addEventListener('submit', () => {
  taken.querySelectorAll('[name=id]').forEach((input) => input.remove());
  if (elements.all.value) return;
  for (const tick of chosen()) {
    const input = document.createElement('input');
    Object.assign(input, { type: 'hidden', name: 'id', value: tick.value });
    taken.append(input);
  }
});

const find = document.getElementById('find');
find.addEventListener('change', (event) => { if (event.target.matches('select')) find.requestSubmit(); });
