-- The role of both daemons, for both compose files: no superuser, and with the grants of docs/adopt.md alone. Run after `view-syncd migrate`, by
-- the owner of the tables, with the role's password in the environment; a second run changes nothing but the password.
\getenv password VIEWS_PASSWORD

SELECT 'CREATE ROLE views' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'views') \gexec
ALTER ROLE views LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';

GRANT USAGE ON SCHEMA public TO views;
GRANT SELECT (id, author_id, views_count), UPDATE (views_count) ON public.posts TO views;
GRANT SELECT (post_id, user_id), INSERT (post_id, user_id, viewed_at) ON public.post_views TO views;
