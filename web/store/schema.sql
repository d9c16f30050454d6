-- All that the page knows. Files lie beside: videos/ID, previews/ID, frames/ID/N.jpg, models/NAME/.
-- Tables stay; views and triggers are made anew at each start. A column that is added
-- to a table is named in `database._ADDED` too.

CREATE TABLE IF NOT EXISTS videos (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,                -- as its owner calls it; never a path on this disk
    size INTEGER NOT NULL,             -- bytes
    received INTEGER NOT NULL DEFAULT 0,
    media_type TEXT,                   -- told from the first bytes
    created REAL NOT NULL,             -- seconds since 1970, as all times of day
    touched REAL NOT NULL,             -- when the last piece came
    arranged REAL,                     -- when a person last moved, split, ... its stretches
    binned REAL,                       -- when it was put into the bin
    recorded REAL,                     -- when it was filmed, by what the file says
    digest TEXT,                       -- of its content
    is_kept INTEGER NOT NULL DEFAULT 0,  -- though the same file is here already
    duration REAL,                     -- seconds
    model TEXT,
    caption TEXT                       -- JSON: times, candidates with their attention weights
);
CREATE INDEX IF NOT EXISTS videos_by_age ON videos (created);
-- To find those to correct without reading all captions.
CREATE INDEX IF NOT EXISTS videos_by_score
    ON videos (json_extract(caption, '$.candidates[0].score'), id);
CREATE INDEX IF NOT EXISTS videos_by_digest ON videos (digest);

CREATE TABLE IF NOT EXISTS tags (
    video TEXT NOT NULL REFERENCES videos ON DELETE CASCADE,
    name TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (video, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_name ON tags (name);

-- What is said of a video: at position 0 of all of it, then of one stretch after the other.
CREATE TABLE IF NOT EXISTS sentences (
    id INTEGER PRIMARY KEY,
    video TEXT NOT NULL REFERENCES videos ON DELETE CASCADE,
    position INTEGER NOT NULL,
    start REAL NOT NULL,               -- seconds
    end REAL NOT NULL,
    original TEXT NOT NULL,            -- what the model said
    text TEXT NOT NULL,
    corrected REAL,                    -- when a person last did
    UNIQUE (video, position)
);

-- What was said of a video before a change, so that it can be undone.
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    video TEXT NOT NULL REFERENCES videos ON DELETE CASCADE,
    change TEXT NOT NULL,              -- what was done then: a key of `history.CHANGES`
    created REAL NOT NULL,
    sentences TEXT NOT NULL,           -- JSON: the rows as they were
    arranged REAL,
    model TEXT,                        -- these two only where a model changed them
    caption TEXT
);
CREATE INDEX IF NOT EXISTS history_by_video ON history (video, number);

CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5 (
    text, content = sentences, content_rowid = id, tokenize = 'porter unicode61'
);
DROP TRIGGER IF EXISTS sentence_added;
CREATE TRIGGER sentence_added AFTER INSERT ON sentences BEGIN
    INSERT INTO search (rowid, text) VALUES (new.id, new.text);
END;
DROP TRIGGER IF EXISTS sentence_gone;
CREATE TRIGGER sentence_gone AFTER DELETE ON sentences BEGIN
    INSERT INTO search (search, rowid, text) VALUES ('delete', old.id, old.text);
END;
DROP TRIGGER IF EXISTS sentence_changed;
CREATE TRIGGER sentence_changed AFTER UPDATE ON sentences BEGIN
    INSERT INTO search (search, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO search (rowid, text) VALUES (new.id, new.text);
END;

CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    video TEXT NOT NULL REFERENCES videos ON DELETE CASCADE,
    task TEXT NOT NULL DEFAULT 'caption',  -- or label: every moment; or preview
    state TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'working', 'done', 'failed', 'cancelled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    options TEXT,                      -- JSON: what is asked of the sentences, if anything
    error TEXT,
    created REAL NOT NULL,
    started REAL,
    finished REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
-- Where the present batch of captions begins: at the first job since the queue was last empty.
CREATE TABLE IF NOT EXISTS queue (
    first INTEGER NOT NULL,
    paused REAL                        -- since when nothing is begun
);
INSERT INTO queue SELECT 0, NULL WHERE NOT EXISTS (SELECT 1 FROM queue);
DROP TRIGGER IF EXISTS batch_begun;
CREATE TRIGGER batch_begun AFTER INSERT ON jobs WHEN new.task = 'caption' AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE task = 'caption' AND state IN ('waiting', 'working')
        AND number < new.number) BEGIN
    UPDATE queue SET first = new.number;
END;
-- No video waits twice for the same, whatever is clicked how often.
DROP INDEX IF EXISTS one_open_job;
CREATE UNIQUE INDEX one_open_job ON jobs (video, task)
    WHERE state IN ('waiting', 'working');
CREATE INDEX IF NOT EXISTS jobs_by_video ON jobs (video, number);

DROP VIEW IF EXISTS library;
CREATE VIEW library AS
    SELECT videos.id, name, videos.size, received, media_type, videos.created, duration,
        coalesce((SELECT title FROM models WHERE models.name = model), model) AS model,
        caption IS NOT NULL AS captioned,  -- not the caption itself: it is large
        jobs.number AS job, jobs.error, jobs.started,
        CASE WHEN received < videos.size THEN 'uploading' ELSE jobs.state END AS state,
        sentences.text AS sentence, sentences.original, sentences.corrected, arranged,
        watched.path, watched.missing, recorded,
        -- The first one of the same content, unless a person keeps both.
        iif(is_kept, NULL, (SELECT id FROM videos AS other WHERE other.digest = videos.digest
            AND other.binned IS NULL AND (other.created, other.id) < (videos.created, videos.id)
            ORDER BY other.created, other.id LIMIT 1)) AS twin
    FROM videos
    LEFT JOIN watched ON watched.video = videos.id
    LEFT JOIN jobs ON jobs.number = (
        SELECT max(number) FROM jobs WHERE video = videos.id AND task = 'caption')
    LEFT JOIN sentences ON sentences.video = videos.id AND sentences.position = 0
    WHERE binned IS NULL;

-- Files in watched folders; of each path at most one is there.
CREATE TABLE IF NOT EXISTS watched (
    number INTEGER PRIMARY KEY,
    path BLOB NOT NULL,                -- absolute
    video TEXT UNIQUE REFERENCES videos ON DELETE SET NULL,  -- NULL: none, or not wanted
    size INTEGER NOT NULL,             -- bytes
    modified INTEGER NOT NULL,         -- nanoseconds since 1970
    digest TEXT NOT NULL,              -- of its content
    missing REAL                       -- since when it is not there
);
CREATE UNIQUE INDEX IF NOT EXISTS watched_by_path ON watched (path) WHERE missing IS NULL;
CREATE INDEX IF NOT EXISTS watched_by_digest ON watched (digest);

-- Small copies, which browsers play, of videos that they do not.
CREATE TABLE IF NOT EXISTS previews (
    video TEXT PRIMARY KEY REFERENCES videos ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,             -- bytes
    duration REAL NOT NULL             -- seconds; of a long video it shows the beginning
);

-- Which model labelled every moment of a video, and when what holds in it.
CREATE TABLE IF NOT EXISTS labellings (
    video TEXT PRIMARY KEY REFERENCES videos ON DELETE CASCADE,
    model TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS segments (
    video TEXT NOT NULL REFERENCES labellings ON DELETE CASCADE,
    position INTEGER NOT NULL,
    label INTEGER NOT NULL REFERENCES labels,
    start REAL NOT NULL,               -- seconds
    end REAL NOT NULL,
    probability REAL NOT NULL,         -- the mean over its moments
    PRIMARY KEY (video, position)
) WITHOUT ROWID;
-- Their numbers are their colours, in all videos and whichever model said them.
CREATE TABLE IF NOT EXISTS labels (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,            -- of its folder; what `videos.model` says
    title TEXT,                           -- as people call it, if otherwise
    path TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('waiting', 'training', 'comparing', 'ready', 'active', 'earlier',
            'discarded', 'failed', 'cancelled')),
    base INTEGER REFERENCES models,
    learned INTEGER NOT NULL DEFAULT 0,   -- corrections trained on
    comparison TEXT,                      -- JSON: what it and its base say, see `teaching`
    was TEXT,                             -- its state before it was discarded
    discarded REAL,                       -- when it was
    error TEXT,
    created REAL NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active_model ON models (state) WHERE state = 'active';
CREATE UNIQUE INDEX IF NOT EXISTS one_training ON models (1)
    WHERE state IN ('waiting', 'training', 'comparing');

-- Browsers that logged in and did not log out.
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    created REAL NOT NULL
) WITHOUT ROWID;

-- What browsers are told as it happens.
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,               -- video, model, queue; label or preview, of a video
    subject TEXT NOT NULL,             -- its id; "all" of the queue
    state TEXT NOT NULL
);
DROP TRIGGER IF EXISTS job_added;
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    INSERT INTO events (topic, subject, state)
    VALUES (iif(new.task = 'caption', 'video', new.task), new.video, new.state);
END;
DROP TRIGGER IF EXISTS job_changed;
CREATE TRIGGER job_changed AFTER UPDATE OF state ON jobs BEGIN
    INSERT INTO events (topic, subject, state)
    VALUES (iif(new.task = 'caption', 'video', new.task), new.video, new.state);
END;
DROP TRIGGER IF EXISTS video_gone;
CREATE TRIGGER video_gone AFTER DELETE ON videos WHEN old.binned IS NULL BEGIN
    INSERT INTO events (topic, subject, state) VALUES ('video', old.id, 'deleted');
END;
DROP TRIGGER IF EXISTS video_binned;
CREATE TRIGGER video_binned AFTER UPDATE OF binned ON videos BEGIN
    INSERT INTO events (topic, subject, state)
    VALUES ('video', new.id, iif(new.binned IS NULL, 'restored', 'deleted'));
END;
DROP TRIGGER IF EXISTS sentence_corrected;
CREATE TRIGGER sentence_corrected AFTER UPDATE OF text ON sentences BEGIN
    INSERT INTO events (topic, subject, state) VALUES ('video', new.video, 'corrected');
END;
DROP TRIGGER IF EXISTS queue_paused;
CREATE TRIGGER queue_paused AFTER UPDATE OF paused ON queue
    WHEN (old.paused IS NULL) <> (new.paused IS NULL) BEGIN
    INSERT INTO events (topic, subject, state)
    VALUES ('queue', 'all', iif(new.paused IS NULL, 'running', 'paused'));
END;
DROP TRIGGER IF EXISTS file_watched;
CREATE TRIGGER file_watched AFTER UPDATE OF missing ON watched
    WHEN new.video IS NOT NULL AND old.missing IS NOT new.missing BEGIN
    INSERT INTO events (topic, subject, state)
    VALUES ('video', new.video, iif(new.missing IS NULL, 'back', 'missing'));
END;
DROP TRIGGER IF EXISTS model_added;
CREATE TRIGGER model_added AFTER INSERT ON models BEGIN
    INSERT INTO events (topic, subject, state) VALUES ('model', new.id, new.state);
END;
DROP TRIGGER IF EXISTS model_changed;
CREATE TRIGGER model_changed AFTER UPDATE OF state, title ON models BEGIN
    INSERT INTO events (topic, subject, state) VALUES ('model', new.id, new.state);
END;
DROP TRIGGER IF EXISTS model_gone;
CREATE TRIGGER model_gone AFTER DELETE ON models BEGIN
    INSERT INTO events (topic, subject, state) VALUES ('model', old.id, 'deleted');
END;
DROP TRIGGER IF EXISTS events_kept;
CREATE TRIGGER events_kept AFTER INSERT ON events WHEN new.number % 1000 = 0 BEGIN
    DELETE FROM events WHERE number <= new.number - 10000;
END;
