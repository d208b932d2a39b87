//! Conversion of paths in the container of cross.

use std::path::{Path, PathBuf};

use super::Workspace;

/// Directories of this machine that are available in the container of cross.
///
/// A local container engine mounts the project at [`Container::PROJECT`] or at the same path as on this machine, and
/// the target directory at [`Container::TARGET_DIRECTORY`]. For a remote engine (`CROSS_REMOTE`), cross copies them to
/// paths below [`Container::VOLUME`], and copies the built files back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    project: &'a Path,
    target_directory: &'a Path,
}

impl<'a> Container<'a> {
    const VOLUME: &'static str = "/cross";
    const PROJECT: &'static str = "/project";
    const TARGET_DIRECTORY: &'static str = "/target";

    /// Determines the directories of a build. The project is the working directory if it contains the workspace, else
    /// the root of the workspace.
    pub(super) fn new(workspace: &'a Workspace, working_directory: &'a Path) -> Self {
        let is_inside = workspace.root.starts_with(working_directory);
        Self {
            project: if is_inside {
                working_directory
            } else {
                &workspace.root
            },
            target_directory: &workspace.target_directory,
        }
    }

    /// Converts a path in the container to a path on this machine.
    pub(super) fn locate(&self, path: &Path) -> PathBuf {
        if path.starts_with(self.target_directory) || path.starts_with(self.project) {
            return path.to_owned();
        }
        let path = match path.strip_prefix(Self::VOLUME) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => path.to_owned(),
        };
        let mounts = [
            (Self::TARGET_DIRECTORY, self.target_directory),
            (Self::PROJECT, self.project),
        ];
        let mounted = mounts.into_iter().find_map(|(mount, directory)| {
            let inside = path.strip_prefix(mount).ok()?;
            Some(directory.join(inside))
        });
        mounted.unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scratch::recorded, *};

    #[test]
    fn cross_container_path_is_converted_to_local_path() {
        let target_directory = Path::new("/home/me/ws/target");
        let container = Container {
            project: Path::new("/home/me/ws"),
            target_directory,
        };
        for (path, expected) in [
            (
                "/target/a-b-c/release/x",
                "/home/me/ws/target/a-b-c/release/x",
            ),
            (
                "/home/me/ws/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            ("/project/app/Cargo.toml", "/home/me/ws/app/Cargo.toml"),
            (
                "/cross/project/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            (
                "/cross/home/me/ws/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            ("/cross/target/release/x", "/home/me/ws/target/release/x"),
            ("/elsewhere/release/x", "/elsewhere/release/x"),
        ] {
            assert_eq!(container.locate(Path::new(path)), Path::new(expected));
        }
        let at_mount = Container {
            project: Path::new("/project"),
            target_directory: Path::new("/target"),
        };
        for path in ["/target/release/x", "/project/Cargo.toml"] {
            assert_eq!(at_mount.locate(Path::new(path)), Path::new(path));
        }
    }

    #[test]
    fn cross_container_project_contains_the_workspace() {
        let workspace = recorded();
        let project = |directory| Container::new(&workspace, Path::new(directory)).project;
        assert_eq!(project("/home/me/ws/app"), Path::new("/home/me/ws"));
        assert_eq!(project("/home/me"), Path::new("/home/me"));
        assert_eq!(project("/srv"), Path::new("/home/me/ws"));
    }
}
