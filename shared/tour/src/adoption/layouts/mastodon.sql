-- Like Mastodon: ids of 18 digits, which no double holds, and counts that stand apart.
CREATE TABLE accounts (id bigint PRIMARY KEY, username varchar NOT NULL);
CREATE TABLE statuses (
  id bigint PRIMARY KEY,
  text text NOT NULL DEFAULT '',
  account_id bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
  deleted_at timestamp
);
CREATE TABLE status_stats (status_id bigint NOT NULL UNIQUE REFERENCES statuses ON DELETE CASCADE, favourites_count bigint NOT NULL DEFAULT 0);
CREATE TABLE status_views (
  id bigserial PRIMARY KEY,
  status_id bigint NOT NULL REFERENCES statuses ON DELETE CASCADE,
  account_id bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
  created_at timestamp NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX index_status_views_on_status_id_and_account_id ON status_views (status_id, account_id);
INSERT INTO accounts VALUES (109876543210123451, 'ann'), (109876543210123452, 'boris'), (109876543210123453, 'clara'), (109876543210123454, 'dora');
INSERT INTO statuses VALUES (112233445566778899, 'A status', 109876543210123451), (112233445566778900, 'Another', 109876543210123452);
INSERT INTO status_views (status_id, account_id) VALUES
  (112233445566778899, 109876543210123452), (112233445566778899, 109876543210123453), (112233445566778900, 109876543210123451);
