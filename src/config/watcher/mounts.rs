//! Filesystems that tell nobody when a file changes: over a network or through a helper process, the change happens elsewhere.

use std::path::Path;

/// Types whose changes from elsewhere raise no event here: all through FUSE, the network ones, and those of virtual machines.
const SILENT: [&str; 12] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "9p", "virtiofs", "vboxsf", "lustre"];

/// The type of the filesystem that `directory` lies on if events cannot be trusted there. `table` is what
/// `/proc/self/mountinfo` says (proc(5)): a line each, the mount point in the fifth field, the type after a lone `-`.
pub(super) fn silent_type<'t>(table: &'t str, directory: &Path) -> Option<&'t str> {
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = unescape(before.split(' ').nth(4)?);
        let kind = after.split(' ').next()?;
        directory.starts_with(&point).then_some((point.len(), kind))
    });
    // The longest mount point holds the directory; of equal ones the last, which lies over the others.
    let (_, kind) = mounts.max_by_key(|(length, _)| *length)?;
    (SILENT.contains(&kind) || kind.starts_with("fuse")).then_some(kind)
}

/// Blanks, tabs, line breaks and backslashes stand as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let table = "22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw\n\
             30 22 0:30 / /mnt/share rw shared:2 - nfs4 host:/export rw\n\
             31 30 0:31 / /mnt/share/local rw - tmpfs tmpfs rw\n\
             32 22 0:32 / /mnt/two\\040words rw - fuse.sshfs host: rw\n\
             33 22 0:33 / /over rw - cifs //host/a rw\n\
             34 22 0:34 / /over rw - ext4 /dev/vdb rw\n\
             no line of that form\n";
        let rows = [
            ("/etc/breakwater", None),
            ("/mnt/share", Some("nfs4")),
            ("/mnt/share/deep/er", Some("nfs4")),
            ("/mnt/shared", None),
            ("/mnt/share/local/x", None),
            ("/mnt/two words/x", Some("fuse.sshfs")),
            ("/over/x", None),
        ];
        for (directory, wanted) in rows {
            assert_eq!(silent_type(table, Path::new(directory)), wanted, "{directory}");
        }
        assert_eq!(silent_type("", Path::new("/")), None);
    }
}
