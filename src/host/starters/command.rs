//! Whether a line of a shell, of a unit or of a table of cron(8) has podman start or make a container of a certain name.
//! Pure.

/// The container that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub name: &'a str,
    /// podman knows a container by its id as well.
    pub id: Option<&'a str>,
}

/// Commands of podman that start or make no container, or one of another's choice. A word after one of them is no command.
const OTHERS: [&str; 29] = [
    "attach",
    "build",
    "commit",
    "cp",
    "diff",
    "exec",
    "export",
    "generate",
    "healthcheck",
    "image",
    "images",
    "inspect",
    "kill",
    "logs",
    "network",
    "pause",
    "port",
    "ps",
    "pull",
    "push",
    "rename",
    "rm",
    "rmi",
    "secret",
    "stop",
    "system",
    "top",
    "volume",
    "wait",
];

const STARTS: [&str; 2] = ["start", "restart"];
const MAKES: [&str; 2] = ["run", "create"];

impl Wanted<'_> {
    /// Whether a line starts or makes it, with the variables of what the line stands in.
    pub(super) fn is_started_by(&self, line: &str, known: &[(String, String)]) -> bool {
        let bare: String = line.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
        let line = with_variables(&bare, known);
        // One line may have several commands.
        let mut commands = line.split([';', '&', '|', '(', ')', '`']);
        commands.any(|command| self.is_started_by_one(command))
    }

    fn is_started_by_one(&self, command: &str) -> bool {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_podman = |word: &&str| {
            let program = word.rsplit('/').next().unwrap_or_default();
            let program = program.trim_start_matches(PREFIXES);
            matches!(program, "podman" | "docker")
        };
        let Some(podman) = words.iter().position(is_podman) else {
            return false;
        };
        let prints = |word: &&str| matches!(*word, "echo" | "printf" | "logger");
        if words[..podman].iter().any(prints) {
            return false;
        }
        let rest = &words[podman + 1..];
        let is_command = |word: &&str| {
            [&STARTS[..], &MAKES, &OTHERS]
                .iter()
                .any(|all| all.contains(word))
        };
        let Some(at) = rest.iter().position(is_command) else {
            return false;
        };
        let arguments = &rest[at + 1..];
        if STARTS.contains(&rest[at]) {
            return arguments.iter().any(|word| is_it(word, self.name, self.id));
        }
        MAKES.contains(&rest[at]) && is_named(arguments, self.name)
    }
}

/// What may stand before a command: of a unit (systemd.service(5)).
const PREFIXES: [char; 5] = ['-', '@', '+', '!', ':'];

/// Whether a line has systemd start one of these services.
pub(super) fn starts_service(line: &str, services: &[String]) -> bool {
    let mut commands = line.split([';', '&', '|']);
    commands.any(|command| {
        let words = command.split_whitespace();
        let mut words = words.skip_while(|word| word.rsplit('/').next() != Some("systemctl"));
        let verbs = ["start", "restart", "reload-or-restart"];
        words.any(|word| verbs.contains(&word)) && words.any(|word| is_one_of(word, services))
    })
}

/// Whether a word is the name of one of these services, with or without its ending.
fn is_one_of(word: &str, services: &[String]) -> bool {
    let word = word.trim_matches(['"', '\'']);
    let mut services = services.iter();
    services.any(|service| service == word || service.strip_suffix(".service") == Some(word))
}

/// The files that a command may run as a script, relative to the root.
pub(super) fn scripts(command: &str) -> Vec<String> {
    // A table of cron has six words before the command.
    let words = command
        .split(|c: char| c.is_whitespace() || c == ';')
        .take(12);
    words
        .filter_map(|word| {
            let path = word.trim_start_matches(PREFIXES).trim_matches(['"', '\'']);
            Some(path.strip_prefix('/')?.to_owned())
        })
        .collect()
}

/// Whether a text names podman at all. Most scripts of a VM do not, and need no closer look.
pub(super) fn names_podman(text: &str) -> bool {
    text.contains("podman") || text.contains("docker")
}

/// The names of a text's variables, and their values: of a shell, of a table of cron, and of `Environment=` in a unit.
pub(super) fn variables(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.replace(['"', '\''], "");
        let line = line.trim().trim_start_matches("Environment=");
        let words = line.split_whitespace();
        let words = words.skip_while(|word| matches!(*word, "export" | "readonly" | "local"));
        let pairs = words.map_while(|word| word.split_once('='));
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        found.extend(
            pairs
                .filter(|(name, _)| is_name(name))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
    }
    found
}

/// With the values of variables that stand for a word, or for all behind a `=`.
fn with_variables(line: &str, known: &[(String, String)]) -> String {
    if !line.contains('$') {
        return line.to_owned();
    }
    let value = |name: &str| {
        let name = name.trim_start_matches('{').trim_end_matches('}');
        let mut all = known.iter().rev();
        all.find(|(known, _)| known == name).map(|(_, value)| value)
    };
    let words = line.split_whitespace().map(|word| {
        let given = word
            .split_once('$')
            .filter(|(before, _)| before.is_empty() || before.ends_with('='));
        match given.and_then(|(before, name)| Some((before, value(name)?))) {
            Some((before, value)) => format!("{before}{value}"),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a word is the container's name, or the beginning of its id that podman takes for it.
pub fn is_it(word: &str, name: &str, id: Option<&str>) -> bool {
    // podman shows 12 digits.
    word == name || id.is_some_and(|id| word.len() >= 12 && id.starts_with(word))
}

/// Whether arguments of `podman run` give the container this name.
pub fn is_named(arguments: &[&str], name: &str) -> bool {
    let mut pairs = arguments.windows(2);
    arguments
        .iter()
        .any(|word| word.strip_prefix("--name=") == Some(name))
        || pairs.any(|pair| pair == ["--name", name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_starts_it_is_told_from_one_that_names_it() {
        let wanted = Wanted {
            name: "web",
            id: None,
        };
        for (line, starts) in [
            ("podman start web", true),
            ("/usr/bin/podman --log-level info container start web", true),
            (
                "if ! podman container exists web; then podman start web; fi",
                true,
            ),
            ("id=$(podman run -d --name web image)", true),
            ("podman run --name ${NAME} image", true),
            ("podman run --name=\"$NAME\" image", true),
            ("podman run --name $OTHER image", false),
            ("podman exec other supervisorctl restart web", false),
            ("podman logs web --since start", false),
            ("podman pull web", false),
            ("echo podman start web", false),
            ("podman run --name web-2 image web", false),
            ("podman start web-2", false),
        ] {
            let known = variables("NAME=web\nexport OTHER=\"db\"\n");
            assert_eq!(wanted.is_started_by(line, &known), starts, "{line}");
        }
        let unit = "Environment=\"NAME=web\" X=1\n";
        assert!(wanted.is_started_by("podman run --name ${NAME} i", &variables(unit)));
    }

    #[test]
    fn a_line_that_starts_a_service_is_seen() {
        let services = ["app.service".to_owned()];
        for (line, starts) in [
            ("@reboot root systemctl start app", true),
            ("/usr/bin/systemctl --no-block restart app.service", true),
            ("systemctl stop app", false),
            ("systemctl start other", false),
            ("systemctl status other; true start app", false),
        ] {
            assert_eq!(starts_service(line, &services), starts, "{line}");
        }
    }
}
