//! Which manifest a command means: by its tag or the highest release, for a target, a platform or this machine.

use clap::Args;
use futures_util::TryStreamExt;
use oci_package::{Machine, Wanted, tag};
use oci_registry::{ErrorKind, Identifier, Location, Manifest, Platform, Source, Tag};

use super::missing;
use crate::cargo;
use crate::report::Error;
use crate::session::Session;

/// The target that this program was built for, which a machine runs that says nothing of itself.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// For what a manifest is wanted.
#[derive(Debug, Args)]
pub(crate) struct Selector {
    /// Take what was built for this target triple
    #[arg(long, value_name = "TRIPLE", conflicts_with = "platform")]
    target: Option<String>,

    /// Take what is for this platform: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
}

fn platform(text: &str) -> Result<Platform, String> {
    oci_package::platform::parse(text).map_err(|error| error.to_string())
}

impl Selector {
    /// What was asked for, when anything was.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let target = self.target.clone().map(Wanted::Target);
        target.or_else(|| self.platform.clone().map(Wanted::Platform))
    }
}

/// The manifest that was asked for, else the best for this machine: what needs a newer glibc than it has gives way to
/// what needs none.
pub(crate) async fn for_use(
    session: &Session,
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    asked: Option<Wanted>,
) -> Result<Manifest, Error> {
    let candidates = match asked {
        Some(asked) => vec![asked],
        None => machines(session).await,
    };
    let mut refusal = None;
    for wanted in &candidates {
        match fetch(source, root, Some(wanted)).await {
            Err(error) if error.is_not_found() => refusal = refusal.or(Some(error)),
            settled => return settled,
        }
    }
    let refusal = refusal.expect("there is always a candidate");
    Err(missing::explain(source, location, refusal).await)
}

/// What this machine can be asked for as, the best first.
async fn machines(session: &Session) -> Vec<Wanted> {
    let mut machines = cargo::machines(&session.cargo).await;
    if machines.is_empty() {
        machines.push(Machine {
            target: BUILT_FOR.to_owned(),
            glibc: None,
        });
    }
    machines.into_iter().map(Wanted::Machine).collect()
}

/// The manifest that is wanted of a place.
pub(crate) async fn manifest(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<&Wanted>,
) -> Result<Manifest, Error> {
    match fetch(source, root, wanted).await {
        Err(error) => Err(missing::explain(source, location, error).await),
        found => found,
    }
}

async fn fetch(
    source: &dyn Source,
    root: &Identifier,
    wanted: Option<&Wanted>,
) -> Result<Manifest, Error> {
    Ok(match wanted {
        Some(wanted) => oci_package::find(source, root, wanted).await?,
        None => source.manifest(root).await?,
    })
}

/// What a location names; without tag and digest, the highest release, and of an archive the only tag that there is.
pub(crate) async fn root(source: &dyn Source, location: &Location) -> Result<Identifier, Error> {
    if let Some(identifier) = location.identifier() {
        return Ok(identifier);
    }
    let tags: oci_registry::Result<Vec<Tag>> = source.tags().try_collect().await;
    let tags = tags.map_err(|error| missing::repository(error.into(), location))?;
    if let (Location::Archive { .. }, [only]) = (location, &tags[..]) {
        return Ok(only.clone().into());
    }
    match tag::highest(&tags) {
        Some((tag, _)) => Ok(tag.clone().into()),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("failed to find a release in `{location}`"),
        )
        .help(match tags.len() {
            0 => "push something: it is empty".to_owned(),
            count => format!(
                "name a tag: none of its {count} is a version, as `cargo oci tags {location}` shows"
            ),
        })),
    }
}
