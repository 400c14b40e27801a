-- Supabase: row level security, and a table post_views of the site's own.
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text);
CREATE TABLE public.posts (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
  title text NOT NULL,
  view_count bigint NOT NULL DEFAULT 0
);
CREATE TABLE public.post_views (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  post_id uuid NOT NULL REFERENCES public.posts ON DELETE CASCADE,
  viewer_id uuid REFERENCES auth.users ON DELETE SET NULL,
  viewed_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.post_views ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Posts are for everybody" ON public.posts FOR SELECT USING (true);
CREATE POLICY "Anybody views" ON public.post_views FOR INSERT WITH CHECK (true);
INSERT INTO auth.users VALUES
  ('00000000-0000-4000-8000-00000000000a', 'ann@example.com'), ('00000000-0000-4000-8000-00000000000b', 'boris@example.com'),
  ('00000000-0000-4000-8000-00000000000c', 'clara@example.com');
INSERT INTO public.posts VALUES ('22222222-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000a', 'A post', 5);
INSERT INTO public.post_views (post_id, viewer_id) VALUES
  ('22222222-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000b'),
  ('22222222-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000b'),
  ('22222222-0000-4000-8000-000000000007', NULL),
  ('22222222-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000c');
