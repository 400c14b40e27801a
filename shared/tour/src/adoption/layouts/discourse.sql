-- Discourse: views of topics by day, most of them of nobody who is known, and a count that has more.
CREATE TABLE users (id serial PRIMARY KEY, username varchar(60) NOT NULL);
CREATE TABLE topics (
  id serial PRIMARY KEY,
  title varchar NOT NULL,
  views integer NOT NULL DEFAULT 0,
  posts_count integer NOT NULL DEFAULT 0,
  user_id integer,
  deleted_at timestamp,
  created_at timestamp NOT NULL DEFAULT now()
);
CREATE TABLE topic_views (topic_id integer NOT NULL, viewed_at date NOT NULL, user_id integer, ip_address inet);
CREATE INDEX index_topic_views_on_topic_id_and_viewed_at ON topic_views (topic_id, viewed_at);
CREATE UNIQUE INDEX user_id_topic_id_topic_views ON topic_views (user_id, topic_id) WHERE user_id IS NOT NULL;
INSERT INTO users VALUES (-1, 'system'), (1, 'ann'), (2, 'boris'), (3, 'clara');
INSERT INTO topics (id, title, views, user_id) VALUES (7, 'Welcome', 230, 1), (8, 'Rules', 2, -1);
INSERT INTO topic_views VALUES
  (7, '2024-05-01', 1, '192.0.2.1'), (7, '2024-05-01', 2, '192.0.2.2'), (7, '2024-05-02', NULL, '192.0.2.3'),
  (7, '2024-05-03', 3, '192.0.2.3'), (8, '2024-05-03', 2, '192.0.2.2'), (999, '2024-05-03', 2, '192.0.2.2');
