//! The set of enabled detectors: a joined gate over the bytes, then a verdict per class and start position.
//!
//! A start position is judged by each class on its own; a class goes on behind its last finding. Findings of different classes
//! that overlap become one masked stretch named after the first. All verdicts are local (see [`crate::classes`]), so the result
//! over whole bytes and over any cut of them is the same.
use std::sync::Arc;

use crate::classes::{Class, Verdict, View, CLASSES};
use crate::contacts::{is_local, MAX_LOCAL_BYTES, MAX_UNSHAPED_BYTES};
use crate::custom::{Custom, MAX_MATCH_BYTES, MAX_PATTERNS};
use crate::gate::{Ahead, Gate};
use crate::tail::Tail;
use crate::{Counts, MaskError};

/// Names of the built-in detectors.
pub fn detector_names() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|class| class.name)
}

/// One finding: which detector, and the bytes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Index into [`Detectors::names`].
    pub detector: u16,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Enabled detectors, compiled once and shared.
pub struct Detectors {
    classes: Vec<&'static Class>,
    customs: Vec<Custom>,
    names: Vec<Arc<str>>,
    tokens: Vec<Vec<u8>>,
    gate: Option<Gate>,
    /// For each byte the classes (by bit) that can start with it.
    starts: [u128; 256],
    /// The classes (by bit) of which nothing starts directly behind a letter or digit.
    apart: u128,
    has_email: bool,
    unshaped_bytes: usize,
}

/// Positions searched one by one behind a hit of the gate before the gate is asked again: hits come in clusters.
const HOT_BYTES: usize = 16;

/// Where a search stands: kept between the chunks of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Everything before this position is settled.
    pub(crate) at: usize,
    /// For each class the position before which it is not asked: the end of its last finding.
    pub(crate) resume: Vec<usize>,
    /// What a finding that has not ended goes on consuming.
    pub(crate) open: Option<Tail>,
    /// Where that finding stands in the list of this call; none when an earlier call reported it.
    open_finding: Option<usize>,
    /// How far a finding that was open when this call began goes; 0 when none was.
    pub(crate) carried_to: usize,
}

impl Progress {
    /// Forgets `bytes` bytes at the front of what is searched.
    pub(crate) fn drop_front(&mut self, bytes: usize) {
        self.at -= bytes;
        for resume in &mut self.resume {
            *resume = resume.saturating_sub(bytes);
        }
    }
}

impl Detectors {
    /// The built-in detectors named in `enabled` and the patterns of `custom` (name, regular expression).
    pub fn new(enabled: &[&str], custom: &[(String, String)]) -> Result<Detectors, MaskError> {
        if let Some(name) = enabled
            .iter()
            .find(|name| !CLASSES.iter().any(|class| class.name == **name))
        {
            let known = detector_names().collect::<Vec<_>>().join(", ");
            return Err(MaskError::Spec(format!(
                "unknown detector {name:?}; there are {known}"
            )));
        }
        if custom.len() > MAX_PATTERNS {
            return Err(MaskError::Spec(format!(
                "{} patterns; at most {MAX_PATTERNS} can be used",
                custom.len()
            )));
        }
        let classes: Vec<&Class> = CLASSES
            .iter()
            .filter(|class| enabled.contains(&class.name))
            .collect();
        let customs = custom
            .iter()
            .map(|(name, pattern)| Custom::new(name, pattern))
            .collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = classes
            .iter()
            .map(|class| class.name)
            .chain(customs.iter().map(|custom| custom.name.as_str()))
            .collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| {
            names[..*at].contains(name)
                || (*at >= classes.len() && detector_names().any(|known| known == **name))
        }) {
            return Err(MaskError::Spec(format!(
                "two detectors are called {name:?}"
            )));
        }
        let mut starts = [0u128; 256];
        for (byte, bits) in (0u8..=255).zip(starts.iter_mut()) {
            let begins = classes
                .iter()
                .map(|class| (class.starts)(byte))
                .chain(customs.iter().map(|custom| custom.can_start(byte)));
            *bits = begins
                .enumerate()
                .map(|(class, begins)| u128::from(begins) << class)
                .sum();
        }
        let tokens = names
            .iter()
            .map(|name| format!("[masked:{name}]").into_bytes())
            .collect();
        let names = names.into_iter().map(Arc::from).collect();
        let gate = Gate::new(&classes, &customs)?;
        let apart = classes
            .iter()
            .enumerate()
            .map(|(place, class)| u128::from(class.is_apart) << place)
            .sum();
        let has_email = classes.iter().any(|class| class.name == "email");
        let unshaped_bytes = if customs.is_empty() {
            MAX_UNSHAPED_BYTES
        } else {
            MAX_UNSHAPED_BYTES.max(MAX_MATCH_BYTES + 1)
        };
        Ok(Detectors {
            classes,
            customs,
            names,
            tokens,
            gate,
            starts,
            apart,
            has_email,
            unshaped_bytes,
        })
    }

    /// Names of the enabled detectors, in the order [`Finding::detector`] counts them.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The fixed text that replaces a finding of this detector.
    pub(crate) fn token(&self, detector: u16) -> &[u8] {
        &self.tokens[usize::from(detector)]
    }

    pub(crate) fn begin(&self) -> Progress {
        Progress {
            resume: vec![0; self.names.len()],
            ..Progress::default()
        }
    }

    /// Every finding, sorted by start; findings of different detectors may overlap.
    pub fn scan(&self, hay: &[u8]) -> Vec<Finding> {
        let (mut findings, mut ahead) = (Vec::new(), Ahead::default());
        let gate = self.gate.as_ref().filter(|gate| !gate.is_digest(hay));
        if gate.and_then(|gate| ahead.find(gate, hay, 0)).is_some() {
            let view = View {
                hay,
                is_complete: true,
            };
            self.search_on(view, ahead, &mut self.begin(), &mut findings);
            findings.sort_by_key(|finding| (finding.start, finding.detector));
        }
        findings
    }

    /// Appends `hay` to `out` with every finding replaced by its token; whether there was one.
    pub fn mask(&self, hay: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> bool {
        let findings = self.scan(hay);
        let mut copied = 0;
        for span in merge(&findings) {
            out.extend_from_slice(&hay[copied..span.start]);
            out.extend_from_slice(self.token(span.detector));
            copied = span.end;
        }
        out.extend_from_slice(&hay[copied..]);
        self.count(&findings, counts);
        !findings.is_empty()
    }

    pub(crate) fn count(&self, findings: &[Finding], counts: &mut Counts) {
        for finding in findings {
            counts.add_detected(&self.names[usize::from(finding.detector)]);
        }
    }

    /// Whether the gate sees anything at all.
    pub(crate) fn may_match(&self, hay: &[u8]) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_match(hay))
    }

    /// Settles positions from `progress.at` on, adding findings, until the end or the first position that needs more bytes.
    pub(crate) fn advance(
        &self,
        view: View<'_>,
        progress: &mut Progress,
        findings: &mut Vec<Finding>,
    ) {
        (progress.open_finding, progress.carried_to) = (None, 0);
        self.search_on(view, Ahead::default(), progress, findings);
    }

    /// The search itself, with what the gate has seen already.
    fn search_on(
        &self,
        view: View<'_>,
        mut ahead: Ahead,
        progress: &mut Progress,
        findings: &mut Vec<Finding>,
    ) {
        let Some(gate) = &self.gate else {
            progress.at = view.hay.len();
            return;
        };
        while progress.at < view.hay.len() {
            if progress.open.is_some() {
                self.extend_open(view, progress, findings);
                continue;
            }
            let hit = ahead.find(gate, view.hay, progress.at);
            let mut next = hit.map_or(view.hay.len(), |hit| {
                self.step_back(view.hay, progress.at, hit)
            });
            if !view.is_complete {
                next = next.min(view.hay.len().saturating_sub(self.unshaped_bytes));
            }
            progress.at = progress.at.max(next);
            let until = hit.map_or(view.hay.len(), |hit| (hit + HOT_BYTES).min(view.hay.len()));
            while progress.at < until && progress.open.is_none() {
                if !self.settle(view, progress, findings) {
                    return;
                }
            }
        }
    }

    /// As [`Detectors::advance`] over complete bytes, with every class asked at every position.
    #[cfg(test)]
    pub(crate) fn judge_all(
        &self,
        view: View<'_>,
        progress: &mut Progress,
        findings: &mut Vec<Finding>,
    ) {
        while progress.at < view.hay.len() {
            if progress.open.is_some() {
                self.extend_open(view, progress, findings);
            } else {
                let bits = self.starts[usize::from(view.hay[progress.at])];
                self.judge(bits, view, progress, findings);
            }
        }
    }

    /// An e-mail shows its shape at the sign; it starts where the run of local characters before that does.
    fn step_back(&self, hay: &[u8], floor: usize, hit: usize) -> usize {
        if !self.has_email {
            return hit;
        }
        let run = hay[floor..hit]
            .iter()
            .rev()
            .take(MAX_LOCAL_BYTES)
            .take_while(|byte| is_local(**byte))
            .count();
        hit - run
    }

    /// Judges one position; false when it needs more bytes.
    fn settle(&self, view: View<'_>, progress: &mut Progress, findings: &mut Vec<Finding>) -> bool {
        let at = progress.at;
        let mut bits = self.starts[usize::from(view.hay[at])];
        if at > 0 && view.hay[at - 1].is_ascii_alphanumeric() {
            bits &= !self.apart;
        }
        self.judge(bits, view, progress, findings)
    }

    /// Asks the classes of `bits` at one position; false when one needs more bytes.
    fn judge(
        &self,
        bits: u128,
        view: View<'_>,
        progress: &mut Progress,
        findings: &mut Vec<Finding>,
    ) -> bool {
        let at = progress.at;
        let first_new = findings.len();
        let mut open = None;
        let mut left = bits;
        while left != 0 {
            let class = left.trailing_zeros() as usize;
            left &= left - 1;
            if progress.resume[class] > at {
                continue;
            }
            let verdict = match self.classes.get(class) {
                Some(class) => (class.verdict)(view, at),
                None => self.customs[class - self.classes.len()].verdict(view, at),
            };
            let detector = class as u16;
            match verdict {
                Verdict::Reject => {}
                Verdict::NeedMore => {
                    findings.truncate(first_new);
                    return false;
                }
                Verdict::Accept { start, end } => findings.push(Finding {
                    detector,
                    start,
                    end,
                }),
                Verdict::Open { start, end, tail } => {
                    open = Some((findings.len(), tail));
                    findings.push(Finding {
                        detector,
                        start,
                        end,
                    });
                }
            }
        }
        for finding in &findings[first_new..] {
            progress.resume[usize::from(finding.detector)] = finding.end;
        }
        progress.at = at + 1;
        if let Some((place, tail)) = open {
            progress.at = findings[place].end;
            progress.open = Some(tail);
            progress.open_finding = Some(place);
        }
        true
    }

    /// An open finding swallows everything up to its end: no other class is asked inside it.
    fn extend_open(&self, view: View<'_>, progress: &mut Progress, findings: &mut [Finding]) {
        let Some(mut tail) = progress.open.take() else {
            return;
        };
        let (length, has_ended) = tail.consume(&view.hay[progress.at..]);
        progress.at += length;
        match progress
            .open_finding
            .and_then(|place| findings.get_mut(place))
        {
            Some(finding) => finding.end = progress.at,
            None => progress.carried_to = progress.at,
        }
        if has_ended {
            progress.open_finding = None;
        } else {
            progress.open = Some(tail);
        }
        for resume in &mut progress.resume {
            *resume = progress.at.max(*resume);
        }
    }
}

/// Findings sorted by start, as stretches that do not overlap; each is named after its first finding.
pub(crate) fn merge(findings: &[Finding]) -> Vec<Finding> {
    let mut spans: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        match spans.last_mut() {
            Some(last) if finding.start < last.end => last.end = last.end.max(finding.end),
            _ => spans.push(*finding),
        }
    }
    spans
}
