CREATE TABLE completions (
    "key" VARCHAR(64) NOT NULL, 
    reply TEXT NOT NULL, 
    created_at DOUBLE NOT NULL, 
    PRIMARY KEY ("key")
);
CREATE INDEX ix_completions_created_at ON completions (created_at);
CREATE TABLE job_tasks (
    id INTEGER NOT NULL, 
    job_id VARCHAR(32) NOT NULL, 
    identity VARCHAR(96) NOT NULL, 
    task_id BIGINT, 
    data TEXT NOT NULL, 
    wanted_until DOUBLE NOT NULL, 
    state VARCHAR(16) DEFAULT 'pending' NOT NULL, 
    owner VARCHAR(64) DEFAULT '' NOT NULL, 
    lease_until DOUBLE DEFAULT '0' NOT NULL, 
    prediction TEXT, 
    code VARCHAR(64) DEFAULT '' NOT NULL, 
    reason TEXT DEFAULT '' NOT NULL, 
    tokens INTEGER DEFAULT '0' NOT NULL, 
    finished_at DOUBLE, 
    handed_over_at DOUBLE DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    UNIQUE (job_id, identity)
);
CREATE INDEX ix_job_tasks_owner ON job_tasks (owner);
CREATE INDEX job_tasks_in_turn ON job_tasks (job_id, state, wanted_until DESC, id);
CREATE TABLE jobs (
    id VARCHAR(32) NOT NULL, 
    project TEXT NOT NULL, 
    model_version TEXT NOT NULL, 
    label_config TEXT NOT NULL, 
    extra_params TEXT NOT NULL, 
    prompt TEXT NOT NULL, 
    state VARCHAR(16) NOT NULL, 
    reason TEXT DEFAULT '' NOT NULL, 
    code VARCHAR(64) DEFAULT '' NOT NULL, 
    created_at DOUBLE NOT NULL, 
    submitted_at DOUBLE NOT NULL, 
    delivery_owner VARCHAR(64) DEFAULT '' NOT NULL, 
    delivery_lease_until DOUBLE DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id)
);
CREATE INDEX ix_jobs_project ON jobs (project);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX jobs_by_version ON jobs (project, model_version);
CREATE TABLE open_requests (
    id VARCHAR(32) NOT NULL, 
    job_id VARCHAR(32) NOT NULL, 
    open_until DOUBLE NOT NULL, 
    PRIMARY KEY (id)
);
CREATE INDEX ix_open_requests_job_id ON open_requests (job_id);
CREATE TABLE projects (
    project TEXT NOT NULL, 
    label_config TEXT, 
    extra_params TEXT DEFAULT '{}' NOT NULL, 
    prompt TEXT, 
    label_studio_url TEXT, 
    label_studio_token TEXT, 
    PRIMARY KEY (project)
);
CREATE TABLE schema_version (
    version INTEGER NOT NULL
);
