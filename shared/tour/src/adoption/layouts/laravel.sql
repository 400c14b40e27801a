-- Laravel: a column of JSON with the viewers, whose ids are numbers, and some texts.
CREATE TABLE users (id bigserial PRIMARY KEY, name varchar(255) NOT NULL);
CREATE TABLE posts (
  id bigserial PRIMARY KEY,
  user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
  title varchar(255) NOT NULL,
  viewed_by jsonb NOT NULL DEFAULT '[]',
  views_count integer NOT NULL DEFAULT 0,
  created_at timestamp(0),
  updated_at timestamp(0)
);
INSERT INTO users VALUES (1, 'Ann'), (2, 'Boris'), (3, 'Clara'), (4, 'Dora');
INSERT INTO posts (id, user_id, title, viewed_by, views_count) VALUES (7, 1, 'A post', '[2, "3", 1, null, "guest", {"id": 4}]', 40), (8, 2, 'Another', '[]', 0);
