-- run.sqlite: all that a run has found out, except the bitstreams themselves.
--
-- Keys of codecs, VLMs and tasks are hashes of all that decides their results
-- (plugin and version, options, level, provenance, data), so that a changed
-- option finds nothing stale.  Every value but those in `runs` and `timings`
-- is the same however often the run was interrupted.

-- One row for each start of `lossylens run` on this folder.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,          -- ISO 8601, UTC
    ended TEXT,                     -- NULL: running, or killed
    outcome TEXT,                   -- done, interrupted or error
    config TEXT NOT NULL,           -- JSON: the configuration as written
    manifest TEXT NOT NULL          -- JSON: versions, platform, seeds, settings
);

-- Codecs at a level, VLMs with their adaptor, and tasks, as the key was made of.
CREATE TABLE parts (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,             -- codec, vlm or task
    description TEXT NOT NULL       -- JSON
) WITHOUT ROWID;

-- Image files by content.  A file that cannot be decoded has a failure.
CREATE TABLE images (
    sha256 TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    width INTEGER,
    height INTEGER,
    format TEXT,                    -- JSON: lossylens.images.SourceFormat
    failure TEXT
) WITHOUT ROWID;

CREATE TABLE encodings (
    codec TEXT NOT NULL REFERENCES parts,
    image TEXT NOT NULL REFERENCES images,
    bitstream TEXT,                 -- SHA-256: bitstreams/<first two digits>/<all>
    bytes INTEGER,
    failure TEXT,
    transient INTEGER NOT NULL,     -- 1: the failure may pass; the next start tries again
    PRIMARY KEY (codec, image)
) WITHOUT ROWID;

-- How far decoded images are from their originals, where that was asked for.
CREATE TABLE fidelity (
    codec TEXT NOT NULL REFERENCES parts,
    image TEXT NOT NULL REFERENCES images,
    metric TEXT NOT NULL,           -- such as psnr
    method TEXT NOT NULL,           -- library with its version, weights, definition
    value REAL,                     -- infinite where the metric says so
    failure TEXT,
    PRIMARY KEY (codec, image, metric)
) WITHOUT ROWID;

-- The same of all images of a task together.
CREATE TABLE set_fidelity (
    codec TEXT NOT NULL REFERENCES parts,
    task TEXT NOT NULL REFERENCES parts,
    metric TEXT NOT NULL,           -- such as fid
    inputs TEXT NOT NULL,           -- hash of method and images; another is measured anew
    value REAL,                     -- NULL: fewer than two images
    images INTEGER NOT NULL,
    PRIMARY KEY (codec, task, metric)
) WITHOUT ROWID;

-- Of the latest configuration that had the task.
CREATE TABLE samples (
    task TEXT NOT NULL REFERENCES parts,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,      -- in the order of the data
    question TEXT NOT NULL,         -- JSON: lossylens.vlm.Question
    fields TEXT NOT NULL,           -- JSON
    cluster TEXT NOT NULL,          -- what the bootstrap draws together
    PRIMARY KEY (task, id)
) WITHOUT ROWID;

-- The images of a sample, in its order.
CREATE TABLE sample_images (
    task TEXT NOT NULL REFERENCES parts,
    sample TEXT NOT NULL,
    position INTEGER NOT NULL,
    image TEXT REFERENCES images,   -- NULL: the file could not be read
    context INTEGER NOT NULL,       -- 1: shown as it is, and no part of the rate
    PRIMARY KEY (task, sample, position)
) WITHOUT ROWID;

-- Samples with the first of their images, for whoever shows one.
CREATE VIEW shown_samples AS
SELECT samples.*, sample_images.image
FROM samples LEFT JOIN sample_images ON sample_images.task = samples.task
    AND sample_images.sample = samples.id AND sample_images.position = 0;

CREATE TABLE cells (
    key TEXT PRIMARY KEY,
    position INTEGER,               -- in the latest configuration; NULL: not in it
    vlm TEXT NOT NULL REFERENCES parts,
    codec TEXT NOT NULL REFERENCES parts,
    task TEXT NOT NULL REFERENCES parts,
    vlm_label TEXT NOT NULL,
    adaptor_label TEXT NOT NULL,
    codec_label TEXT NOT NULL,
    level TEXT NOT NULL,
    task_label TEXT NOT NULL
) WITHOUT ROWID;

-- Cells that the latest configuration names and that do not exist, by their labels.
CREATE TABLE absences (
    position INTEGER PRIMARY KEY,
    vlm_label TEXT NOT NULL,
    adaptor_label TEXT NOT NULL,
    codec_label TEXT NOT NULL,
    level TEXT NOT NULL,
    task_label TEXT NOT NULL,
    reason TEXT NOT NULL
);

-- An answer, or the reason why there is none.
CREATE TABLE predictions (
    cell TEXT NOT NULL REFERENCES cells,
    sample TEXT NOT NULL,
    text TEXT,
    usage TEXT,                     -- JSON, as the VLM gave it
    stage TEXT,                     -- of a failure: image, encode, decode or answer
    failure TEXT,
    transient INTEGER NOT NULL,     -- 1: the failure may pass; the next start asks again
    PRIMARY KEY (cell, sample)
) WITHOUT ROWID;

-- Images that a VLM was asked about when its process ended; they are asked about last.
CREATE TABLE crashes (
    vlm TEXT NOT NULL REFERENCES parts,
    image TEXT NOT NULL REFERENCES images,
    reason TEXT NOT NULL,
    PRIMARY KEY (vlm, image)
) WITHOUT ROWID;

-- What a reader of a part's results should know, such as that a codec is not deterministic.
CREATE TABLE notes (
    part TEXT NOT NULL REFERENCES parts,
    text TEXT NOT NULL,
    PRIMARY KEY (part, text)
) WITHOUT ROWID;

CREATE TABLE scores (
    cell TEXT PRIMARY KEY REFERENCES cells,
    inputs TEXT NOT NULL,           -- hash of what was scored; another one is scored anew
    value REAL,                     -- NULL: not a number
    metrics TEXT NOT NULL,          -- JSON
    samples INTEGER NOT NULL,
    missing INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unextracted INTEGER NOT NULL,
    images INTEGER NOT NULL,        -- distinct images with a rate
    bpp_mean REAL,                  -- mean over these images
    bpp_total REAL,                 -- their bits over their pixels
    limited INTEGER NOT NULL        -- 1: the task has more images than were asked about
) WITHOUT ROWID;

-- How scores are made of their samples, for confidence intervals: lossylens.task.Resampling.
CREATE TABLE resamplings (
    cell TEXT PRIMARY KEY REFERENCES cells,
    aggregate TEXT NOT NULL,        -- lossylens.task.Aggregate
    factor REAL NOT NULL,           -- of the aggregate
    sums TEXT NOT NULL              -- JSON: by cluster, the sums of its samples' parts
) WITHOUT ROWID;

CREATE TABLE verdicts (
    cell TEXT NOT NULL REFERENCES cells,
    sample TEXT NOT NULL,
    verdict REAL,
    extracted TEXT,
    PRIMARY KEY (cell, sample)
) WITHOUT ROWID;

-- Kept apart because they differ from run to run.  Rows are added as work is
-- done; work that was done again has several.
CREATE TABLE timings (
    stage TEXT NOT NULL,            -- encode, decode or answer
    part TEXT NOT NULL,             -- key of the codec, or of the VLM
    items INTEGER NOT NULL,         -- images, or questions
    seconds REAL NOT NULL
);

-- All failures in the latest configuration, one row for each cell and sample.
CREATE VIEW failures AS
SELECT predictions.stage, cells.position, cells.vlm_label, cells.adaptor_label,
       cells.codec_label, cells.level, cells.task_label, predictions.sample,
       sample_images.image, predictions.failure
FROM predictions
JOIN cells ON cells.key = predictions.cell
JOIN sample_images ON sample_images.task = cells.task
    AND sample_images.sample = predictions.sample AND sample_images.position = 0
WHERE predictions.text IS NULL AND cells.position IS NOT NULL;
