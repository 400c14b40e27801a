-- A stand-in for the application's own table, with a few posts to view: for deploy/try and for docker-compose.yml.
-- The first post brings 41 views from the time before there was a ledger; such a count is kept, and counted on from.
CREATE TABLE posts (
  id uuid PRIMARY KEY,
  author_id uuid NOT NULL,
  title text NOT NULL,
  views_count bigint NOT NULL DEFAULT 0
);

INSERT INTO posts (id, author_id, title, views_count) VALUES
  ('550e8400-e29b-41d4-a716-446655440000', 'a0000000-0000-4000-8000-000000000001', 'An old favourite', 41),
  ('550e8400-e29b-41d4-a716-446655440001', 'a0000000-0000-4000-8000-000000000001', 'Yesterday''s news', 0),
  ('550e8400-e29b-41d4-a716-446655440002', 'a0000000-0000-4000-8000-000000000002', 'A first draft', 0);
