-- The ledger: who viewed what, once, for ever. `view-syncd migrate` creates the same table, with the id types of the application's own
-- posts table; this file is for those whose migrations are reviewed and run by other tools, and whose posts have uuid ids.
--
-- The application's table must have been created before: posts (id uuid primary key, author_id uuid, views_count bigint).

CREATE TABLE IF NOT EXISTS post_views (
  post_id uuid NOT NULL REFERENCES posts (id) ON DELETE CASCADE,
  user_id uuid NOT NULL,
  viewed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (post_id, user_id)
);

-- How much of each post's count no view explains. `view-syncd recount` needs it, and `view-syncd migrate` fills it: run that afterwards.
CREATE TABLE IF NOT EXISTS post_views_base (
  post_id uuid PRIMARY KEY REFERENCES posts (id) ON DELETE CASCADE,
  base bigint NOT NULL
);
