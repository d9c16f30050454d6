// Correcting with the keyboard: one video after the other, and its stretches while they are played.

import { root } from './server.js';

const query = new URLSearchParams(location.search); // with what the library was searched for
export const isSeries = query.has('correct');
query.delete('correct');

export function next(video, step = 'after') {
  location.assign(`${root}/correct?${new URLSearchParams([...query, [step, video]])}`);
}

function play(player, time) {
  player.muted = true; // browsers start nothing that sounds
  if (time !== undefined) player.currentTime = time;
  player.play().catch(() => {}); // where it cannot play, the page says so
}

// `edit(true)` opens the sentence of the whole; `player` is null of a picture.
export function begin(page, player, edit) {
  const { video } = page.dataset;
  const writing = () => document.activeElement?.closest('.stretches li');
  const seen = {
    ' ': () => { if (player.paused) player.play().catch(() => {}); else player.pause(); },
    ArrowLeft: () => { player.currentTime -= 2; },
    ArrowRight: () => { player.currentTime += 2; },
  };
  const keys = {
    e: () => edit(true),
    w: () => (page.querySelector('.stretches li:not(.corrected) .bare') ?? page.querySelector('.bare'))?.focus(),
    j: () => next(video),
    k: () => next(video, 'before'),
    '?': () => document.getElementById('keys').showModal(),
    ...player && seen,
  };
  // The same of the player where letters are typed.
  const typing = player ? { ' ': seen[' '], ',': seen.ArrowLeft, '.': seen.ArrowRight } : {};
  document.addEventListener('keydown', (event) => {
    if (event.metaKey || event.altKey) return;
    const isText = event.target.matches('textarea');
    const isElsewhere = event.target.closest('input, textarea, select, button, a, summary, video, dialog');
    const act = event.ctrlKey ? isText && typing[event.key] : !isElsewhere && keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  if (!isSeries) return;
  if (page.querySelector('#edit')) edit(true);
  if (!player) return;
  player.loop = true;
  play(player);
  // Who corrects a stretch sees it, again and again.
  page.addEventListener('focusin', (event) => {
    if (event.target.matches('.bare')) play(player, Number(writing().dataset.start));
  });
  player.addEventListener('timeupdate', () => {
    const row = writing();
    if (row && !player.paused && player.currentTime >= row.dataset.end) player.currentTime = row.dataset.start;
  });
}
