import { ask, attempt, listen, refresh, tell } from './server.js';

const details = document.getElementById('details');
const naming = document.getElementById('naming');
const sure = document.getElementById('sure');
const update = () => attempt(() => refresh());
let chosen = null; // the model that a dialog is about

// What was done, and a button that takes it back.
function offerUndo(text, path) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'link';
  button.textContent = 'Undo';
  const notice = tell(text);
  notice.firstChild.after(button);
  button.onclick = async () => {
    if (await attempt(() => ask('POST', path))) notice.remove();
    await update();
  };
}

async function post(button) {
  const { post: path, told, undo } = button.dataset;
  button.disabled = true;
  await attempt(async () => {
    const { count } = await ask('POST', path);
    if (count !== undefined) tell(`${count} ${count === 1 ? 'video is' : 'videos are'} ${told}.`);
    else if (undo) offerUndo(told, undo);
  });
  await update();
  button.disabled = false;
}

details.addEventListener('click', ({ target }) => {
  if (target.dataset.post) post(target);
  if (target.dataset.rename) {
    chosen = target.dataset.rename;
    naming.querySelector('input').value = target.dataset.name;
    naming.showModal();
    naming.querySelector('input').select();
  }
  if (target.dataset.delete) {
    chosen = target.dataset.delete;
    sure.querySelector('h2').textContent = `Delete ${target.dataset.name} for good?`;
    sure.showModal();
  }
});
naming.querySelector('#keep-name').onclick = () => naming.close();
naming.addEventListener('submit', async () => {
  const name = naming.querySelector('input').value;
  await attempt(() => ask('PUT', `/api/v1/models/${chosen}`, { name }));
  await update();
});
sure.addEventListener('close', async () => {
  if (sure.returnValue !== 'yes') return;
  await attempt(() => ask('DELETE', `/api/v1/models/${chosen}`));
  await update();
});

listen((topic, _, state) => { if (topic === 'model' || state === 'corrected') update(); });
// The curve grows without an event.
setInterval(() => { if (details.querySelector('.busy')) update(); }, 2000);
