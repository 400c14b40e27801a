//! The statements that ask PostgreSQL's catalogue what the application's tables look like and what this role may do
//! with them. The catalogue may be read by everybody, so none of them needs a right of its own.

/// Describes the table `$2` of the schema `$1`, or of the search path where that is NULL, as one JSON object: what
/// `postgres::schema::catalogue::Table` reads. No row where there is no such table.
///
/// One statement, so that what it tells is of one moment. An index on an expression has a NULL among its columns. A
/// foreign key to a partitioned table has a constraint for each partition too, which are left out. The type of a column
/// is the one that its domain is made from. The columns of a view are told with whether they can be written through it.
pub const TABLE: &str = "\
-- catalogue
SELECT jsonb_build_object(
  'schema', n.nspname, 'table', c.relname, 'kind', c.relkind::text, 'role', current_user::text,
  'schema_rights', (SELECT coalesce(jsonb_agg(privilege), '[]') FROM unnest('{USAGE,CREATE}'::text[]) AS privilege
    WHERE has_schema_privilege(n.oid, privilege)),
  'hides_rows', row_security_active(c.oid), 'is_owned', pg_has_role(c.relowner, 'USAGE'), 'is_deletable', has_table_privilege(c.oid, 'DELETE'),
  'open_to', (SELECT coalesce(jsonb_agg(DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END), '[]')
    FROM (SELECT c.relacl AS acl UNION ALL SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid) own,
      aclexplode(own.acl) acl LEFT JOIN pg_catalog.pg_roles r ON r.oid = acl.grantee
    WHERE acl.grantee <> c.relowner AND (acl.grantee = 0 OR r.rolname IN ('anon', 'authenticated'))),
  'sorted_columns', (SELECT coalesce(jsonb_agg(DISTINCT a.attname), '[]') FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class index_class ON index_class.oid = i.indexrelid
    JOIN pg_catalog.pg_am method ON method.oid = index_class.relam AND method.amname = 'btree'
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL),
  'estimated_rows', greatest(c.reltuples, 0)::int8,
  'has_heirs', c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid),
  'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'name', a.attname, 'type_name', base.typname, 'modifier', base.modifier, 'declared', format_type(a.atttypid, a.atttypmod),
      'cast_name', quote_ident(base_schema.nspname) || '.' || quote_ident(base.typname),
      'is_updatable', CASE c.relkind WHEN 'v' THEN pg_column_is_updatable(c.oid, a.attnum, true)
          OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgtype & 80 = 80)
        ELSE c.relkind IN ('r', 'p') END,
      'is_required', (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL,
      'is_generated', a.attgenerated <> '' OR a.attidentity = 'a',
      'rights', (SELECT coalesce(jsonb_agg(privilege), '[]') FROM unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege
        WHERE has_column_privilege(c.oid, a.attnum, privilege)),
      'forbidden_sequence', (SELECT min(s.oid::regclass::text) FROM pg_catalog.pg_attrdef default_value
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = default_value.oid
          AND d.refclassid = 'pg_catalog.pg_class'::regclass
        JOIN pg_catalog.pg_class s ON s.oid = d.refobjid
        WHERE default_value.adrelid = c.oid AND default_value.adnum = a.attnum
          AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') ELSE false END)
    ) ORDER BY a.attnum), '[]')
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (
      WITH RECURSIVE bases AS (
        SELECT t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS modifier
        UNION ALL
        SELECT inner_type.typname, inner_type.typnamespace, inner_type.typtype, inner_type.typbasetype, inner_type.typtypmod,
          bases.typtypmod
        FROM bases JOIN pg_catalog.pg_type inner_type ON inner_type.oid = bases.typbasetype WHERE bases.typtype = 'd'
      ) SELECT * FROM bases WHERE bases.typtype <> 'd'
    ) base
    JOIN pg_catalog.pg_namespace base_schema ON base_schema.oid = base.typnamespace
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'name', i.indexrelid::regclass::text,
      'columns', (SELECT jsonb_agg(a.attname ORDER BY key.place)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key(number, place)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.number
        WHERE key.place <= i.indnkeyatts),
      'is_unique', i.indisunique, 'is_valid', i.indisvalid AND i.indisready, 'is_immediate', i.indimmediate,
      'is_partial', i.indpred IS NOT NULL
    ) ORDER BY i.indexrelid), '[]')
    FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)),
  'foreign_keys', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'name', k.conname, 'schema', other_schema.nspname, 'table', other.relname,
      'is_readable', has_schema_privilege(other_schema.oid, 'USAGE') AND NOT row_security_active(other.oid)
        AND (SELECT bool_and(has_column_privilege(other.oid, number, 'SELECT')) FROM unnest(k.confkey) AS number),
      'columns', (SELECT jsonb_agg(jsonb_build_array(mine.attname, theirs.attname))
        FROM unnest(k.conkey, k.confkey) AS key(mine, theirs)
        JOIN pg_catalog.pg_attribute mine ON mine.attrelid = k.conrelid AND mine.attnum = key.mine
        JOIN pg_catalog.pg_attribute theirs ON theirs.attrelid = k.confrelid AND theirs.attnum = key.theirs)
    ) ORDER BY k.oid), '[]')
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class other ON other.oid = k.confrelid
    JOIN pg_catalog.pg_namespace other_schema ON other_schema.oid = other.relnamespace
    LEFT JOIN pg_catalog.pg_constraint parent ON parent.oid = k.conparentid
    WHERE k.contype = 'f' AND k.conrelid = c.oid AND parent.conrelid IS DISTINCT FROM c.oid)
)::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = (
  SELECT CASE WHEN $1::text IS NULL THEN to_regclass(quote_ident($2::text))::oid
    ELSE (SELECT named.oid FROM pg_catalog.pg_class named JOIN pg_catalog.pg_namespace owning ON owning.oid = named.relnamespace
      WHERE owning.nspname = $1::text::name AND named.relname = $2::text::name) END
)";

/// Finds a schema that has a table named `$1` and that this role may not look into, so that the search path leaves it
/// out: its name, and the role's.
pub const HIDDEN_TABLE: &str = "\
-- catalogue: hidden table
SELECT n.nspname::text, current_user::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1::text::name AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_schema_privilege(n.oid, 'USAGE')
ORDER BY n.nspname <> 'public', n.nspname LIMIT 1";

/// Names what else an update of the column `$3` of the table `$2` in the schema `$1` sets off in each row: triggers and
/// rules of the table or, where that is a view, of the one table behind it, or of those that have such a column.
pub const TRIGGERS: &str = "\
-- catalogue: triggers
WITH named AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1::text::name AND c.relname = $2::text::name
), tables AS (
  SELECT named.oid FROM named
  UNION SELECT d.refobjid FROM named JOIN pg_catalog.pg_rewrite r ON r.ev_class = named.oid AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_catalog.pg_class'::regclass
), counted AS (
  SELECT own.oid, own.relname, own.attnum FROM (
    SELECT tables.oid, c.relname, a.attnum, count(*) OVER () AS all_tables
    FROM tables JOIN pg_catalog.pg_class c ON c.oid = tables.oid AND c.relkind IN ('r', 'p')
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = tables.oid AND a.attname = $3::text::name AND NOT a.attisdropped
  ) own WHERE own.attnum IS NOT NULL OR own.all_tables = 1
)
SELECT quote_ident(g.tgname) || ' on ' || quote_ident(counted.relname) FROM counted
JOIN pg_catalog.pg_trigger g ON g.tgrelid = counted.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
WHERE g.tgtype & 17 = 17 AND (cardinality(g.tgattr::int2[]) = 0 OR counted.attnum = ANY(g.tgattr::int2[]))
UNION SELECT quote_ident(r.rulename) || ' on ' || quote_ident(counted.relname) FROM counted
JOIN pg_catalog.pg_rewrite r ON r.ev_class = counted.oid AND r.ev_type = '2' AND r.ev_enabled <> 'D'
ORDER BY 1";
