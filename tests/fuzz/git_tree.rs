//! git's trees: what git says that a tree holds is what the agent reads of it.
