import { ask, attempt, listen, refresh, tell } from './server.js';

const details = document.getElementById('details');
const update = () => attempt(() => refresh());

details.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-post]');
  if (!button) return;
  button.disabled = true;
  await attempt(async () => {
    const answer = await ask('POST', button.dataset.post);
    if ('count' in answer) tell(`${answer.count} ${answer.count === 1 ? 'video is' : 'videos are'} captioned again.`);
  });
  await update();
  button.disabled = false;
});

listen((topic, _, state) => { if (topic === 'model' || state === 'corrected') update(); });
// The curve grows without an event.
setInterval(() => { if (details.querySelector('.busy')) update(); }, 2000);
