//! The arguments of a command as a tree, read from the usage line of its row: what COMMAND DOCS tells to
//! tools that complete and check what people type. It knows the notation and no command.

use larder_protocol::reply::Reply;

/// One argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// The word in the usage line; of a group, of its first part.
    pub name: String,
    /// The keyword before it.
    pub token: Option<String>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Its keyword is repeated with it.
    pub multiple_token: bool,
    /// One value, a keyword alone, a choice, or a group.
    pub shape: Shape,
}

/// What an argument consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    #[default]
    Value,
    /// The keyword alone.
    Keyword,
    /// One of these.
    OneOf(Vec<Argument>),
    /// All of these.
    Block(Vec<Argument>),
}

/// Reads a usage line; `None` if it does not follow the notation.
pub fn arguments(usage: &str) -> Option<Vec<Argument>> {
    let spaced: String = usage
        .chars()
        .map(|c| if "[]<>|".contains(c) { format!(" {c} ") } else { c.to_string() })
        .collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let mut choices = alternatives(&mut rest)?;
    match (rest, choices.len()) {
        ([], 0) => Some(Vec::new()),
        ([], 1) => choices.pop(),
        _ => None,
    }
}

/// `a b | c` up to the closing bracket or the end.
fn alternatives<'u>(rest: &mut &'u [&'u str]) -> Option<Vec<Vec<Argument>>> {
    let mut choices = vec![Vec::new()];
    while let Some((word, tail)) = rest.split_first() {
        match *word {
            "]" | ">" => break,
            "|" => choices.push(Vec::new()),
            _ => {
                let sequence = choices.last_mut()?;
                item(word, tail, rest, sequence)?;
                continue;
            }
        }
        *rest = tail;
    }
    choices.into_iter().map(|sequence| Some(with_tokens(sequence))).collect()
}

/// One word or group, added to a sequence.
fn item<'u>(
    word: &'u str,
    tail: &'u [&'u str],
    rest: &mut &'u [&'u str],
    sequence: &mut Vec<Argument>,
) -> Option<()> {
    *rest = tail;
    if word != "[" && word != "<" {
        let keyword = word.bytes().any(|byte| byte.is_ascii_uppercase())
            && !word.bytes().any(|byte| byte.is_ascii_lowercase());
        sequence.push(if keyword {
            let name = word.to_ascii_lowercase();
            let token = Some(word.to_owned());
            Argument { name, token, shape: Shape::Keyword, ..Argument::default() }
        } else {
            Argument { name: word.to_owned(), ..Argument::default() }
        });
        return Some(());
    }
    let optional = word == "[";
    let end = closing(tail)?;
    let (inside, after) = tail.split_at_checked(end)?;
    let (close, after) = after.split_first()?;
    if *close != if optional { "]" } else { ">" } {
        return None;
    }
    *rest = after;
    if let Some((&"...", repeated)) = inside.split_last() {
        return repeat(repeated, sequence);
    }
    let mut inner = inside;
    let choices = alternatives(&mut inner)?;
    let mut group = collapse(choices)?;
    group.optional |= optional;
    sequence.push(group);
    Some(())
}

/// Where the bracket closes that is open before these words.
fn closing(words: &[&str]) -> Option<usize> {
    let mut depth = 1;
    words.iter().position(|word| {
        match *word {
            "[" | "<" => depth += 1,
            "]" | ">" => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// `[key value ...]`: what stands before it may be repeated; it says the same words again.
fn repeat(words: &[&str], sequence: &mut Vec<Argument>) -> Option<()> {
    let mut rest = words;
    let mut again = alternatives(&mut rest)?;
    if again.len() != 1 || !rest.is_empty() {
        return None;
    }
    let again = again.pop()?;
    let tokens = |group: &[Argument]| with_tokens(group.to_vec());
    // The shortest tail that is the same.
    let from = (0..sequence.len())
        .rev()
        .find(|from| sequence.get(*from..).is_some_and(|tail| tokens(tail) == again))?;
    let tail = with_tokens(sequence.split_off(from));
    let mut whole = block(tail)?;
    whole.multiple = true;
    whole.multiple_token = whole.token.is_some();
    sequence.push(whole);
    Some(())
}

/// Choices as one argument.
fn collapse(choices: Vec<Vec<Argument>>) -> Option<Argument> {
    let mut parts: Vec<Argument> = choices.into_iter().map(block).collect::<Option<_>>()?;
    if parts.len() == 1 {
        return parts.pop();
    }
    let name = parts.first()?.name.clone();
    Some(Argument { name, shape: Shape::OneOf(parts), ..Argument::default() })
}

/// A sequence as one argument.
fn block(mut sequence: Vec<Argument>) -> Option<Argument> {
    if sequence.len() == 1 {
        return sequence.pop();
    }
    let name = sequence.first()?.name.clone();
    // A keyword at the head is that of the whole group.
    let token = sequence.first()?.token.clone();
    if sequence.first()?.shape == Shape::Keyword {
        sequence.remove(0);
        return Some(Argument {
            name,
            token,
            shape: Shape::Block(sequence),
            ..Argument::default()
        });
    }
    Some(Argument { name, shape: Shape::Block(sequence), ..Argument::default() })
}

/// `COUNT count`: a keyword that is followed by one value and nothing else belongs to it.
fn with_tokens(sequence: Vec<Argument>) -> Vec<Argument> {
    match sequence.as_slice() {
        [keyword, value]
            if keyword.shape == Shape::Keyword
                && keyword.token.is_some()
                && value.token.is_none()
                && !value.optional =>
        {
            vec![Argument { token: keyword.token.clone(), ..value.clone() }]
        }
        _ => sequence,
    }
}

impl Argument {
    /// The type, as far as its name tells it.
    fn kind(&self) -> &'static str {
        match &self.shape {
            Shape::Keyword => "pure-token",
            Shape::OneOf(_) => "oneof",
            Shape::Block(_) => "block",
            Shape::Value => match self.name.as_str() {
                "key" | "newkey" | "destkey" | "sourcekey" | "key1" | "key2" | "destination"
                | "source" => "key",
                "pattern" => "pattern",
                "timeout" | "longitude" | "latitude" | "radius" | "width" | "height" => "double",
                name if name.starts_with("unix-time") => "unix-time",
                "count" | "offset" | "index" | "numkeys" | "seconds" | "milliseconds" | "limit"
                | "client-id" | "db" | "cursor" | "bit" | "numfields" | "numreplicas"
                | "numlocal" | "protover" => "integer",
                _ => "string",
            },
        }
    }

    /// Writes it as COMMAND DOCS does. `key_spec`: the number of the next key specification.
    pub fn write(&self, reply: &mut Reply<'_>, key_spec: &mut i64) {
        let flags: Vec<&str> = [
            (self.optional, "optional"),
            (self.multiple, "multiple"),
            (self.multiple_token, "multiple_token"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect();
        let parts = match &self.shape {
            Shape::OneOf(parts) | Shape::Block(parts) => Some(parts),
            Shape::Value | Shape::Keyword => None,
        };
        let kind = self.kind();
        let fields = 2
            + usize::from(parts.is_none())
            + usize::from(kind == "key")
            + usize::from(self.token.is_some())
            + usize::from(!flags.is_empty())
            + usize::from(parts.is_some());
        reply.map(fields);
        let text = |reply: &mut Reply<'_>, name: &str, value: &str| {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        };
        text(reply, "name", &self.name);
        text(reply, "type", kind);
        if parts.is_none() {
            text(reply, "display_text", &self.name);
        }
        if kind == "key" {
            reply.bulk(b"key_spec_index");
            reply.integer(*key_spec);
            *key_spec += 1;
        }
        if let Some(token) = &self.token {
            text(reply, "token", token);
        }
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if let Some(parts) = parts {
            reply.bulk(b"arguments");
            reply.array(parts.len());
            parts.iter().for_each(|part| part.write(reply, key_spec));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn shown(argument: &Argument) -> String {
        let own = |text: String| match &argument.token {
            Some(token) if argument.shape != Shape::Keyword => format!("{token} {text}"),
            _ => text,
        };
        let list =
            |parts: &[Argument], by: &str| parts.iter().map(shown).collect::<Vec<_>>().join(by);
        let text = match &argument.shape {
            Shape::Value => own(argument.name.clone()),
            Shape::Keyword => argument.token.clone().unwrap_or_default(),
            Shape::OneOf(parts)
                if argument.token.is_none() && argument.optional && !argument.multiple =>
            {
                list(parts, " | ")
            }
            Shape::OneOf(parts) => own(format!("<{}>", list(parts, " | "))),
            Shape::Block(parts) => own(list(parts, " ")),
        };
        let text = match (argument.multiple, argument.multiple_token) {
            (false, _) => text,
            (true, true) => format!("{text} [{text} ...]"),
            (true, false) => {
                let again = match &argument.token {
                    Some(token) => text.strip_prefix(&format!("{token} ")).unwrap_or(&text),
                    None => &text,
                };
                format!("{text} [{again} ...]")
            }
        };
        if argument.optional { format!("[{text}]") } else { text }
    }

    /// Every usage line can be read, and says the same when it is written again from what was read.
    #[test]
    fn every_usage_line_is_read_completely() {
        let registry = Registry::new(&[]);
        let mut wrong = Vec::new();
        for entry in registry.iter() {
            for row in std::iter::once(entry.command).chain(entry.command.subcommands) {
                let usage = row.usage.split_whitespace().collect::<Vec<_>>().join(" ");
                let again = arguments(&usage)
                    .map(|all| all.iter().map(shown).collect::<Vec<_>>().join(" "));
                if again.as_deref() != Some(&*usage) {
                    wrong.push(format!(
                        "{} {}: {usage:?} -> {again:?}",
                        entry.command.name, row.name
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn words_become_a_tree() {
        let all = arguments("key [NX | XX] [EX seconds | KEEPTTL] value [value ...]").unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[0].kind(), "key");
        assert!(
            all[1].optional && matches!(&all[1].shape, Shape::OneOf(parts) if parts.len() == 2)
        );
        let Shape::OneOf(parts) = &all[2].shape else { return assert_eq!(all[2].kind(), "oneof") };
        assert_eq!((parts[0].token.as_deref(), parts[0].kind()), (Some("EX"), "integer"));
        assert_eq!((parts[1].token.as_deref(), parts[1].kind()), (Some("KEEPTTL"), "pure-token"));
        assert!(all[3].multiple && !all[3].optional && all[3].name == "value");
        for wrong in ["[key", "key]", "<key]", "[value ...]", "key | ]"] {
            assert_eq!(arguments(wrong), None, "{wrong}");
        }
    }
}
