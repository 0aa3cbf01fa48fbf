//! From rules as they are written to a [`Matcher`].
//!
//! The filters are sorted, so that those with the same beginning lie side by side. A branch is then a run of filters
//! that agree up to some level, and its children are the shorter runs in it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Effect, Rule,
    matcher::{
        Below, Branch, FilterEnd, Matcher, NONE, Node, Placeholders, Shape, ShapePart, Terms, hash,
        rank, short,
    },
    template::{Piece, Placeholder, TemplateLevel},
};

/// A rule, and when it is in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderedRule<'r> {
    /// Its place in the order of all rules, of at most 31 bits. Rules with the same order are one rule with several
    /// filters.
    pub order: u32,
    /// The rule.
    pub rule: &'r Rule,
    /// The window of its schedule, or 0 if it is always in force.
    pub window: u32,
}

impl Matcher {
    /// Compiles rules, which come in their order.
    pub(crate) fn new<'r>(rules: impl IntoIterator<Item = OrderedRule<'r>>) -> Self {
        let mut compiler = Compiler::default();
        let mut paths = Vec::new();
        for rule in rules {
            compiler.add(&rule, &mut paths);
        }
        if !paths.is_empty() {
            // Stable: filters that are the same stay in the order of their rules.
            paths.sort_by(|a, b| a.levels.cmp(&b.levels));
            compiler.root(&paths);
        }
        compiler.finish()
    }
}

/// A filter, taken apart.
struct Path<'r> {
    levels: Vec<PathLevel<'r>>,
    end: FilterEnd,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PathLevel<'r> {
    Name(&'r str),
    Single,
    /// Text and values: the shape, and its texts.
    Mixed(Vec<ShapePart>, Vec<&'r str>),
}

#[derive(Default)]
struct Compiler {
    root: Node,
    root_is_named: bool,
    nodes: Vec<Node>,
    branches: Vec<Branch>,
    ends: Vec<FilterEnd>,
    terms: Vec<Terms>,
    numbers: HashMap<Terms, u32>,
    text: Vec<u8>,
    placeholders: Vec<(Placeholder, bool)>,
    shapes: Vec<Shape>,
    parts: Vec<ShapePart>,
    count: u32,
}

impl Compiler {
    fn add<'r>(&mut self, ordered: &OrderedRule<'r>, paths: &mut Vec<Path<'r>>) {
        let rule = ordered.rule;
        let (publish, subscribe) = (rule.publish_classes(), rule.subscribe_classes());
        let receive = rule.receive_classes();
        let ways = match rule.literal {
            false => [(publish | subscribe | receive, false), (0, false)],
            // As names, so that only the same filter finds it. A message never has such a topic, unless the filter has
            // no wildcard.
            true => [
                (publish | subscribe, true),
                (receive, rule.effect == Effect::Deny),
            ],
        };
        for (classes, by_name) in ways {
            if classes != 0 {
                let terms = self.terms(Terms {
                    classes,
                    max_payload: rule.limits.max_payload,
                    window: ordered.window,
                });
                let (levels, multi) = self.levels(rule, by_name);
                let rank = rank(ordered.order, rule.effect);
                let end = FilterEnd { rank, terms, multi };
                paths.push(Path { levels, end });
            }
        }
    }

    fn terms(&mut self, terms: Terms) -> u32 {
        *self.numbers.entry(terms).or_insert_with(|| {
            self.terms.push(terms);
            self.terms.len() as u32 - 1
        })
    }

    /// Returns the levels of a rule's filter, and whether `#` follows. `by_name` says that wildcards are names.
    fn levels<'r>(&mut self, rule: &'r Rule, by_name: bool) -> (Vec<PathLevel<'r>>, bool) {
        let written = rule.filter.levels();
        let mut levels = Vec::with_capacity(written.len());
        for (depth, level) in written.iter().enumerate() {
            levels.push(match level {
                TemplateLevel::Text(name) if &**name == "#" && !by_name => return (levels, true),
                TemplateLevel::Text(name) if &**name == "+" && !by_name => PathLevel::Single,
                TemplateLevel::Text(name) => PathLevel::Name(name),
                TemplateLevel::Mixed(pieces) => self.mixed(pieces, depth == 0),
            });
        }
        (levels, false)
    }

    fn mixed<'r>(&mut self, pieces: &'r [Piece], is_first: bool) -> PathLevel<'r> {
        let (mut shape, mut texts) = (Vec::with_capacity(pieces.len()), Vec::new());
        for (i, piece) in pieces.iter().enumerate() {
            shape.push(match piece {
                Piece::Text(text) => {
                    texts.push(&**text);
                    ShapePart::Text(text.len() as u32)
                }
                Piece::Value(placeholder) => {
                    ShapePart::Value(self.placeholder(placeholder, is_first && i == 0))
                }
            });
        }
        PathLevel::Mixed(shape, texts)
    }

    fn placeholder(&mut self, placeholder: &Placeholder, front: bool) -> u32 {
        let wanted = (placeholder, front);
        let mut known = self.placeholders.iter();
        let known = known.position(|(placeholder, front)| (placeholder, *front) == wanted);
        known.unwrap_or_else(|| {
            self.placeholders.push((placeholder.clone(), front));
            self.placeholders.len() - 1
        }) as u32
    }

    fn root(&mut self, paths: &[Path]) {
        let [first, last] = [&paths[0], &paths[paths.len() - 1]].map(|path| path.levels.first());
        self.root_is_named = matches!(first, Some(PathLevel::Name(_))) && first == last;
        self.root = match first {
            // A level that is looked up by value is behind a branch.
            Some(PathLevel::Mixed(..)) => Node {
                below: Below::Branch,
                value: self.branch(paths, 0),
                ..Node::default()
            },
            _ => self.node(0, paths, 0),
        };
    }

    /// Adds a branch for filters that agree in their first `depth` levels. Returns its number.
    fn branch(&mut self, paths: &[Path], depth: usize) -> u32 {
        let number = self.branches.len();
        let least = paths.iter().map(|path| path.end.rank).min();
        self.branches.push(Branch {
            least: least.unwrap_or(NONE),
            ends: (0, 0),
            names: (0, 0),
            single: NONE,
            shapes: (0, 0),
        });
        let ending = paths.partition_point(|path| path.levels.len() == depth);
        let (ending, rest) = paths.split_at(ending);
        let ends = self.useful(ending);
        self.count += ends.len() as u32;
        let from = self.ends.len() as u32;
        self.ends.extend(ends);
        self.branches[number].ends = (from, self.ends.len() as u32);

        let (mut names, mut shapes) = (Vec::new(), Vec::new());
        for run in rest.chunk_by(|a, b| kin(&a.levels[depth], &b.levels[depth])) {
            match &run[0].levels[depth] {
                PathLevel::Name(name) => names.push((hash(0, name.as_bytes(), 0, name.len()), run)),
                PathLevel::Single => {
                    let nodes = self.nodes(vec![(0, run)], depth);
                    self.branches[number].single = nodes.0;
                }
                PathLevel::Mixed(..) => shapes.push(run),
            }
        }
        self.branches[number].names = self.nodes(names, depth);
        let first = self.shapes.len();
        let placed = first..first + shapes.len();
        self.branches[number].shapes = (placed.start as u32, placed.end as u32);
        self.shapes.resize(placed.end, Shape::default());
        for (place, run) in placed.zip(shapes) {
            self.shapes[place] = self.shape(run, depth);
        }
        number as u32
    }

    /// Returns the shape of filters that have the same at a level.
    fn shape(&mut self, paths: &[Path], depth: usize) -> Shape {
        let from = self.parts.len() as u32;
        if let PathLevel::Mixed(shape, _) = &paths[0].levels[depth] {
            self.parts.extend(shape);
        }
        let parts = (from, self.parts.len() as u32);
        let by_text = paths.chunk_by(|a, b| a.levels[depth] == b.levels[depth]);
        let runs = by_text.map(|run| {
            let texts = match &run[0].levels[depth] {
                PathLevel::Mixed(_, texts) => texts.as_slice(),
                _ => &[],
            };
            let hash = texts
                .iter()
                .fold(0, |mixed, text| hash(mixed, text.as_bytes(), 0, text.len()));
            (hash, run)
        });
        Shape {
            parts,
            nodes: self.nodes(runs.collect(), depth),
            least: paths.iter().map(|path| path.end.rank).min().unwrap_or(NONE),
        }
    }

    /// Adds nodes side by side, in the order of the hashes. Returns their numbers.
    fn nodes(&mut self, runs: Vec<(u64, &[Path])>, depth: usize) -> (u32, u32) {
        let mut runs: Vec<_> = runs
            .into_iter()
            .map(|(hash, run)| (short(hash), run))
            .collect();
        runs.sort_by_key(|(hash, _)| *hash);
        let from = self.nodes.len();
        self.nodes.resize(from + runs.len(), Node::default());
        for (place, (hash, run)) in (from..).zip(&runs) {
            self.nodes[place] = self.node(*hash, run, depth);
        }
        (from as u32, (from + runs.len()) as u32)
    }

    /// Returns a node for filters that agree in their first `depth` levels and the next.
    fn node(&mut self, hash: u16, paths: &[Path], mut depth: usize) -> Node {
        // They are sorted: if the first and the last agree and go on, all do.
        let (first, last) = (&paths[0], &paths[paths.len() - 1]);
        let common = |depth: usize| {
            let level = first.levels.get(depth)?;
            (last.levels.get(depth) == Some(level)).then_some(level)
        };
        let name = self.text.len();
        match common(depth) {
            Some(PathLevel::Mixed(_, texts)) => {
                texts
                    .iter()
                    .for_each(|text| self.text.extend(text.as_bytes()));
                depth += 1;
            }
            _ => {
                let from = depth;
                while let Some(PathLevel::Name(level)) = common(depth) {
                    if depth > from {
                        self.text.push(b'/');
                    }
                    self.text.extend(level.as_bytes());
                    depth += 1;
                }
            }
        }
        let name_len = self.text.len() - name;
        let from = depth;
        while common(depth) == Some(&PathLevel::Single) {
            depth += 1;
        }
        let mut node = Node {
            hash,
            // A filter has at most 65535 bytes and 201 levels.
            name_len: name_len as u16,
            name: name as u32,
            singles: (depth - from) as u8,
            ..Node::default()
        };
        if last.levels.len() == depth
            && let [end] = self.useful(paths)[..]
            && let Ok(terms) = u16::try_from(end.terms)
        {
            self.count += 1;
            node.below = if end.multi { Below::Multi } else { Below::End };
            (node.terms, node.value) = (terms, end.rank);
        } else {
            (node.below, node.value) = (Below::Branch, self.branch(paths, depth));
        }
        node
    }

    /// Returns the ends of the same filter, without those that never decide because an earlier one always does. So
    /// the tree is no larger for what was written twice.
    fn useful(&self, paths: &[Path]) -> Vec<FilterEnd> {
        let mut ends: Vec<FilterEnd> = Vec::new();
        for Path { end, .. } in paths {
            let terms = self.terms[end.terms as usize];
            let covers = |earlier: &FilterEnd| {
                let known = self.terms[earlier.terms as usize];
                known.window == 0
                    && known.classes & terms.classes == terms.classes
                    && known.max_payload >= terms.max_payload
                    && (earlier.multi || !end.multi)
            };
            if !ends.iter().any(covers) {
                ends.push(*end);
            }
        }
        ends
    }

    fn finish(self) -> Matcher {
        let has_placeholders = !self.placeholders.is_empty();
        Matcher {
            checks_payloads: self.terms.iter().any(|terms| terms.max_payload < u32::MAX),
            root: self.root,
            root_is_named: self.root_is_named,
            nodes: self.nodes.into(),
            branches: self.branches.into(),
            ends: self.ends.into(),
            terms: self.terms.into(),
            text: self.text.into(),
            placeholders: has_placeholders.then(|| {
                Box::new(Placeholders {
                    list: self.placeholders.into(),
                    shapes: self.shapes.into(),
                    parts: self.parts.into(),
                })
            }),
            count: self.count,
            id: fresh_id(),
        }
    }
}

/// Returns a number that no other rules have had.
pub(crate) fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether two levels belong together: the same name, or the same shape.
fn kin(a: &PathLevel, b: &PathLevel) -> bool {
    match (a, b) {
        (PathLevel::Mixed(a, _), PathLevel::Mixed(b, _)) => a == b,
        _ => a == b,
    }
}
