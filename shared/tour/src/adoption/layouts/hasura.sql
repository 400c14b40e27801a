-- Hasura: arrays of uuids, and a trigger that notes each update of a post.
CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE posts (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  author_id uuid NOT NULL REFERENCES users,
  viewer_ids uuid[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION set_current_timestamp_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at = now();
  RETURN NEW;
END;
$$;
CREATE TRIGGER set_public_posts_updated_at BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION set_current_timestamp_updated_at();
INSERT INTO users VALUES
  ('00000000-0000-4000-8000-00000000000a', 'Ann'), ('00000000-0000-4000-8000-00000000000b', 'Boris'), ('00000000-0000-4000-8000-00000000000c', 'Clara');
INSERT INTO posts (id, author_id, viewer_ids, updated_at) VALUES
  ('33333333-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000a',
   '{00000000-0000-4000-8000-00000000000b,00000000-0000-4000-8000-00000000000c,00000000-0000-4000-8000-00000000000a}', '2024-05-01');
