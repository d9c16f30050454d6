// Sends files in pieces; a piece that is lost is sent again from where the server says it stands.

import { ask, csrfHeaders, Problem, root, withToken } from './server.js';

const AT_ONCE = 3;
const PATIENCE = 12; // failures in a row before it waits for a person
const waiting = [];
let active = 0;

export function enqueue(upload) {
  waiting.push(upload);
  next();
}

function next() {
  while (active < AT_ONCE && waiting.length) {
    active += 1;
    waiting.shift().run().finally(() => { active -= 1; next(); });
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export class Upload {
  // `show(share, state, message)`: state is sending, waiting, done, failed or gone.
  constructor(file, pieceSize, show) {
    Object.assign(this, { file, pieceSize, show, id: null, gone: false });
    this.key = `upload:${file.name}:${file.size}:${file.lastModified}`;
    show(0, 'queued');
  }

  async run() {
    let failures = 0;
    while (!this.gone) {
      try {
        await this.send(() => { failures = 0; });
        return;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (this.gone) return;
        const again = error.status === 0 || error.status === 429 || error.status >= 502 && error.status !== 507;
        failures += 1;
        if (!again || failures > PATIENCE) {
          if (!again && error.status !== 401) this.forget();
          this.show(this.share, 'failed', error.message, error.status);
          return;
        }
        this.show(this.share, 'waiting', error.status === 429 ? error.message : 'The connection is lost; the upload continues when it is back.');
        await pause(error.status === 429 ? 10 : Math.min(2 ** failures / 2, 20));
      }
    }
  }

  async send(onProgress) {
    await this.read(0); // before it is announced
    if (this.gone) return;
    let offset = await this.begin();
    while (offset < this.file.size && !this.gone) {
      try {
        const body = await this.read(offset);
        const video = await withToken(() => this.patch(offset, body));
        offset = video.received;
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 409) throw error;
        offset = error.body.offset;
      }
      onProgress();
      this.share = offset / this.file.size;
    }
    if (this.gone) return;
    this.forget();
    this.show(1, 'done');
  }

  // Read here rather than as it is sent: a folder, or a file that is gone, is no broken line.
  async read(offset) {
    try {
      return new Blob([await this.file.slice(offset, offset + this.pieceSize).arrayBuffer()]);
    } catch {
      throw new Problem(400, { message: 'This file cannot be read; it may be a folder, or have been moved or changed.' });
    }
  }

  // Announces the file, or finds out how much of it is there from an earlier try.
  async begin() {
    this.id = this.id || localStorage.getItem(this.key);
    if (this.id) {
      try {
        return (await ask('GET', `/api/v1/videos/${this.id}`)).received;
      } catch (error) {
        if (error.status !== 404) throw error;
        this.forget();
      }
    }
    const video = await ask('POST', '/api/v1/videos', { name: this.file.name, size: this.file.size });
    if (this.gone) { // cancelled meanwhile, when nobody knew its id
      await ask('DELETE', `/api/v1/videos/${video.id}`);
      return 0;
    }
    this.id = video.id;
    localStorage.setItem(this.key, this.id);
    return 0;
  }

  patch(offset, body) {
    return new Promise((done, fail) => {
      if (this.gone) { // cancelled while the piece was read
        fail(new Problem(0, {}));
        return;
      }
      const request = new XMLHttpRequest(); // fetch does not tell how much it has sent
      this.request = request;
      request.open('PATCH', `${root}/api/v1/videos/${this.id}/content`);
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      request.setRequestHeader('Upload-Offset', offset);
      for (const [name, value] of Object.entries(csrfHeaders())) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => {
        this.share = (offset + Math.min(event.loaded, body.size)) / this.file.size;
        this.show(this.share, 'sending');
      };
      request.onerror = request.onabort = () => fail(new Problem(0, {}));
      request.onload = () => {
        let answer = {};
        try { answer = JSON.parse(request.responseText); } catch { /* a proxy's own page */ }
        if (request.status === 200) done(answer);
        else fail(new Problem(request.status, answer));
      };
      request.send(body);
    });
  }

  async cancel() {
    this.gone = true;
    const place = waiting.indexOf(this);
    if (place >= 0) waiting.splice(place, 1);
    this.request?.abort();
    const { id } = this;
    this.forget();
    this.show(0, 'gone');
    if (id) await ask('DELETE', `/api/v1/videos/${id}?forever=true`);
  }

  forget() {
    localStorage.removeItem(this.key);
  }
}
