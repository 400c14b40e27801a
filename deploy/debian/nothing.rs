//! A Debian package is described in a manifest, and a manifest needs a target.
