//! A document that can be changed: unfolded only along the paths that change it.

use std::borrow::Cow;

use super::super::error::Malformed;
use super::Json;
use super::diff::{Diff, DiffOp, JsonDiffs};
use super::node::Node;
use super::path::{self, Leg};
use super::text::{self, Writer};

enum Tree<'a> {
    Folded(Node<'a>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, [u8]>, Self)>),
}

/// Appends the text of `before` with `diffs` applied in order.
pub(super) fn patched(before: &Json<'_>, diffs: &JsonDiffs<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut root = Tree::Folded(before.root()?);
    let mut legs = Vec::new();
    // The parsed paths must outlive the tree that borrows their names.
    for diff in diffs.iter() {
        let diff = diff?;
        legs.push((diff, path::parse(diff.path)?));
    }
    let bytes = before.raw().len() + diffs.raw().len();
    let mut memory = Writer::new(bytes);
    for (diff, legs) in &legs {
        root.apply(diff, legs, &mut memory)?;
    }
    let mut writer = Writer::new(bytes);
    root.write(&mut writer, out, 0)
}

fn nowhere(diff: &Diff<'_>) -> Malformed {
    Malformed::Invalid { expected: "a JSON path that the document has", found: diff.path.len() as u64 }
}

impl<'a> Tree<'a> {
    /// One level. Each container has bytes of its own in the document: `memory` ends where many unfold the same ones.
    fn unfold(&mut self, memory: &mut Writer) -> Result<(), Malformed> {
        let Self::Folded(node) = self else { return Ok(()) };
        if let Node::Array(m) | Node::Object(m) = node {
            memory.spend(m.len().saturating_mul(m.cost(&[])))?;
        }
        *self = match *node {
            Node::Array(m) => {
                Self::Array((0..m.len()).map(|i| m.value(i).map(Self::Folded)).collect::<Result<_, _>>()?)
            }
            Node::Object(m) => {
                let member = |i| Ok((Cow::Borrowed(m.key(i)?), Self::Folded(m.value(i)?)));
                Self::Object((0..m.len()).map(member).collect::<Result<_, _>>()?)
            }
            _ => return Ok(()),
        };
        Ok(())
    }

    fn child(&mut self, leg: &Leg<'_>, memory: &mut Writer) -> Result<Option<&mut Self>, Malformed> {
        self.unfold(memory)?;
        Ok(match (self, leg) {
            (Self::Array(cells), Leg::Cell(i)) => cells.get_mut(*i),
            (Self::Object(members), Leg::Member(name)) => {
                members.iter_mut().find(|(key, _)| *key == *name).map(|(_, value)| value)
            }
            _ => None,
        })
    }

    fn apply(&mut self, diff: &Diff<'a>, legs: &'a [Leg<'a>], memory: &mut Writer) -> Result<(), Malformed> {
        let value = diff.value.map(|v| v.root()).transpose()?.map(Self::Folded);
        let Some((last, above)) = legs.split_last() else {
            // The whole document.
            return match (diff.op, value) {
                (DiffOp::Replace, Some(value)) => {
                    *self = value;
                    Ok(())
                }
                _ => Err(nowhere(diff)),
            };
        };
        let mut parent = self;
        for leg in above {
            parent = parent.child(leg, memory)?.ok_or_else(|| nowhere(diff))?;
        }
        if diff.op == DiffOp::Replace {
            let place = parent.child(last, memory)?.ok_or_else(|| nowhere(diff))?;
            *place = value.ok_or_else(|| nowhere(diff))?;
            return Ok(());
        }
        parent.unfold(memory)?;
        match (parent, last, value) {
            (Self::Array(cells), Leg::Cell(i), Some(value)) => cells.insert((*i).min(cells.len()), value),
            (Self::Array(cells), Leg::Cell(i), None) if *i < cells.len() => {
                cells.remove(*i);
            }
            (Self::Object(members), Leg::Member(name), value) => {
                // The server's order of keys: by length, then by bytes.
                let order = |key: &[u8]| (key.len(), key.to_vec());
                let at = members.partition_point(|(key, _)| order(key) < order(name));
                let there = members.get(at).is_some_and(|(key, _)| *key == *name);
                match value {
                    Some(value) if there => members[at].1 = value,
                    Some(value) => members.insert(at, (Cow::Borrowed(name), value)),
                    None if there => {
                        members.remove(at);
                    }
                    None => return Err(nowhere(diff)),
                }
            }
            _ => return Err(nowhere(diff)),
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer, out: &mut Vec<u8>, depth: usize) -> Result<(), Malformed> {
        match self {
            Self::Folded(node) => writer.node(node, out, depth),
            Self::Array(cells) => {
                text::deeper(depth)?;
                out.push(b'[');
                for (i, cell) in cells.iter().enumerate() {
                    text::separate(out, i);
                    cell.write(writer, out, depth + 1)?;
                }
                out.push(b']');
                Ok(())
            }
            Self::Object(members) => {
                text::deeper(depth)?;
                out.push(b'{');
                for (i, (key, value)) in members.iter().enumerate() {
                    text::separate(out, i);
                    text::member(out, key)?;
                    value.write(writer, out, depth + 1)?;
                }
                out.push(b'}');
                Ok(())
            }
        }
    }
}
