//! The resources of a role and what each needs to be in place first.

use std::sync::Arc;

use super::Address;
use super::resource::{Managed, Resource};

/// A resource, and the indices in the graph of those that it needs.
pub struct Node {
    pub resource: Arc<dyn Managed>,
    pub address: Address,
    pub needs: Vec<usize>,
}

/// A handle to an added resource, with which later ones name it as a need. A need is always added
/// before its dependents, so a graph cannot have a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

/// The resources of one role, each after those that it needs.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Adds a resource that is converged after all of `needs`.
    pub fn add(&mut self, resource: impl Resource, needs: &[Id]) -> Id {
        let address = Resource::address(&resource);
        self.nodes.push(Node {
            resource: Arc::new(resource),
            address,
            needs: needs.iter().map(|id| id.0).collect(),
        });
        Id(self.nodes.len() - 1)
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}
