-- Like Ghost: the first of a post's authors, and what is published.
CREATE TABLE users (id varchar(24) PRIMARY KEY, name varchar(191) NOT NULL);
CREATE TABLE members (id varchar(24) PRIMARY KEY, email varchar(191) NOT NULL);
CREATE TABLE posts (
  id varchar(24) PRIMARY KEY,
  uuid varchar(36) NOT NULL,
  title varchar(2000) NOT NULL,
  status varchar(50) NOT NULL DEFAULT 'draft',
  view_count integer
);
CREATE TABLE posts_authors (
  id varchar(24) PRIMARY KEY,
  post_id varchar(24) NOT NULL REFERENCES posts,
  author_id varchar(24) NOT NULL REFERENCES users,
  sort_order integer NOT NULL DEFAULT 0
);
CREATE TABLE members_post_views (id varchar(24) PRIMARY KEY, member_id varchar(24) NOT NULL, post_id varchar(24) NOT NULL, created_at timestamp NOT NULL);
INSERT INTO users VALUES ('5951f5fca366002ebd5dbef7', 'Ann'), ('5951f5fca366002ebd5dbef8', 'Boris');
INSERT INTO members VALUES ('65a1f5fca366002ebd5dbe01', 'clara@example.com'), ('65a1f5fca366002ebd5dbe02', 'dora@example.com');
INSERT INTO posts VALUES
  ('64b7f3d9e4b0a1c2d3e4f501', '2b1b1b1b-0000-4000-8000-000000000001', 'A post', 'published', NULL),
  ('64b7f3d9e4b0a1c2d3e4f502', '2b1b1b1b-0000-4000-8000-000000000002', 'A draft', 'draft', NULL);
INSERT INTO posts_authors VALUES
  ('64b7f3d9e4b0a1c2d3e4f511', '64b7f3d9e4b0a1c2d3e4f501', '5951f5fca366002ebd5dbef8', 1),
  ('64b7f3d9e4b0a1c2d3e4f512', '64b7f3d9e4b0a1c2d3e4f501', '5951f5fca366002ebd5dbef7', 0);
INSERT INTO members_post_views VALUES
  ('66a1f5fca366002ebd5dbe01', '65a1f5fca366002ebd5dbe01', '64b7f3d9e4b0a1c2d3e4f501', '2024-05-01'),
  ('66a1f5fca366002ebd5dbe02', '65a1f5fca366002ebd5dbe01', '64b7f3d9e4b0a1c2d3e4f502', '2024-05-01');
CREATE VIEW published_posts AS
  SELECT p.id, p.view_count,
    (SELECT a.author_id FROM posts_authors a WHERE a.post_id = p.id ORDER BY a.sort_order LIMIT 1) AS author_id
  FROM posts p WHERE p.status = 'published';
