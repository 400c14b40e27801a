-- WordPress in PostgreSQL: names in capitals, and counts in a table of texts.
CREATE TABLE wp_users ("ID" bigserial PRIMARY KEY, user_login varchar(60) NOT NULL DEFAULT '');
CREATE TABLE wp_posts (
  "ID" bigserial PRIMARY KEY,
  post_author bigint NOT NULL DEFAULT 0,
  post_title text NOT NULL,
  post_status varchar(20) NOT NULL DEFAULT 'publish',
  post_type varchar(20) NOT NULL DEFAULT 'post'
);
CREATE TABLE wp_postmeta (
  meta_id bigserial PRIMARY KEY,
  post_id bigint NOT NULL DEFAULT 0,
  meta_key varchar(255),
  meta_value text
);
CREATE INDEX wp_postmeta_post_id ON wp_postmeta (post_id);
INSERT INTO wp_users VALUES (1, 'ann'), (2, 'boris'), (3, 'clara'), (4, 'dora');
INSERT INTO wp_posts VALUES (7, 1, 'Hello', 'publish', 'post'), (8, 2, 'A page', 'publish', 'page');
INSERT INTO wp_postmeta (post_id, meta_key, meta_value) VALUES
  (7, '_edit_last', '1'), (7, 'viewed_by', '2'), (7, 'viewed_by', '3'), (7, 'viewed_by', 'guest'), (7, 'viewed_by', ''), (7, 'viewed_by', '1');
-- Of all that is kept in this table, who has seen a post.
CREATE VIEW seen AS SELECT post_id, nullif(meta_value, '') AS user_id FROM wp_postmeta WHERE meta_key = 'viewed_by';
