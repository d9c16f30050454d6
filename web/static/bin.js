import { ask, attempt, listen, refresh, tell } from './server.js';

const sure = document.getElementById('sure');
let path = null; // what is deleted when somebody is sure
const update = () => attempt(() => refresh());

document.getElementById('binned').addEventListener('click', async ({ target }) => {
  const { restore, forever, name } = target.dataset;
  if (restore) {
    if (await attempt(() => ask('POST', `/api/v1/videos/${restore}/restore`))) tell('It is back among your videos.');
    await update();
  }
  if (!forever && target.id !== 'empty') return;
  path = forever ? `/api/v1/videos/${forever}?forever=true` : '/api/v1/bin';
  sure.querySelector('h2').textContent = forever ? `Delete ${name} for good?` : 'Empty the bin?';
  sure.showModal();
});
sure.addEventListener('close', async () => {
  if (sure.returnValue !== 'yes') return;
  await attempt(() => ask('DELETE', path));
  await update();
});

listen((topic) => { if (topic === 'video') update(); });
