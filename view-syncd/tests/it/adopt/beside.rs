//! Adoption beside daemons, locks, and whatever else goes on.
