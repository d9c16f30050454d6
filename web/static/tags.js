// Tags of a video on its page, and what is said of a file that is here twice.

import { ask, attempt } from './server.js';

export function tagging(page, path, update) {
  const put = async (tags, focus) => {
    if (!await attempt(() => ask('PUT', `${path}/tags`, { tags }))) return;
    page.querySelector('#new-tag').value = '';
    document.activeElement.blur(); // what somebody writes in is not swapped
    await update();
    page.querySelector(focus)?.focus();
  };
  const tags = () => [...page.querySelectorAll('.untag')].map(({ dataset }) => dataset.tag);
  page.addEventListener('submit', ({ target }) => {
    const name = page.querySelector('#new-tag').value.trim();
    if (target.id === 'tagging' && name) put([...tags(), name], '#new-tag');
  });
  page.addEventListener('click', async ({ target }) => {
    if (target.matches('.untag')) put(tags().filter((tag) => tag !== target.dataset.tag), '#new-tag');
    if (target.id === 'keep-both') {
      await attempt(() => ask('POST', `${path}/keep`));
      update();
    }
  });
}
