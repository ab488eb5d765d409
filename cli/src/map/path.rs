//! Parts of an argument seen as a path, as GNU parallel cuts them: on bytes, without the file system.

/// `{.}`: the path without its extension, the last dot of its last component and what follows.
#[must_use]
pub fn without_extension(path: &[u8]) -> &[u8] {
    let last = path.len() - basename(path).len();
    match path[last..].iter().rposition(|&byte| byte == b'.') {
        Some(dot) => &path[..last + dot],
        None => path,
    }
}

/// `{/}`: what follows the last slash; empty for a path that ends in one.
#[must_use]
pub fn basename(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

/// `{//}`: the directory, as dirname(1) prints it; `.` where the path names none.
#[must_use]
pub fn dirname(path: &[u8]) -> &[u8] {
    let trimmed = without_slashes(path);
    match trimmed.iter().rposition(|&byte| byte == b'/') {
        None if trimmed.is_empty() && !path.is_empty() => b"/",
        None => b".",
        Some(slash) => match without_slashes(&trimmed[..slash]) {
            b"" => b"/",
            directory => directory,
        },
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, `{.}`, `{/}`, `{//}`, `{/.}` as GNU parallel 20221122 prints them.
    const CASES: [[&str; 5]; 24] = [
        [
            "dir/foo.tar.gz",
            "dir/foo.tar",
            "foo.tar.gz",
            "dir",
            "foo.tar",
        ],
        ["foo", "foo", "foo", ".", "foo"],
        [".bashrc", "", ".bashrc", ".", ""],
        ["dir/.bashrc", "dir/", ".bashrc", "dir", ""],
        ["/a", "/a", "a", "/", "a"],
        ["a/", "a/", "", ".", ""],
        ["dir.d/foo", "dir.d/foo", "foo", "dir.d", "foo"],
        ["/", "/", "", "/", ""],
        ["", "", "", ".", ""],
        ["foo.", "foo", "foo.", ".", "foo"],
        ["./x.y", "./x", "x.y", ".", "x"],
        ["a//b.c", "a//b", "b.c", "a", "b"],
        ["..", ".", "..", ".", "."],
        ["a.b/", "a.b/", "", ".", ""],
        ["/x.y", "/x", "x.y", "/", "x"],
        ["//a", "//a", "a", "/", "a"],
        ["a/b//", "a/b//", "", "a", ""],
        ["///", "///", "", "/", ""],
        ["./", "./", "", ".", ""],
        ["../a", "../a", "a", "..", "a"],
        ["a/./b", "a/./b", "b", "a/.", "b"],
        ["/a/b/", "/a/b/", "", "/a", ""],
        ["//a//b//", "//a//b//", "", "//a", ""],
        ["a//", "a//", "", ".", ""],
    ];

    #[test]
    fn paths_are_cut_as_gnu_parallel_cuts_them() {
        for [path, stem, base, directory, base_stem] in CASES {
            let bytes = path.as_bytes();
            assert_eq!(
                without_extension(bytes),
                stem.as_bytes(),
                "{{.}} of {path:?}"
            );
            assert_eq!(basename(bytes), base.as_bytes(), "{{/}} of {path:?}");
            assert_eq!(dirname(bytes), directory.as_bytes(), "{{//}} of {path:?}");
            let both = without_extension(basename(bytes));
            assert_eq!(both, base_stem.as_bytes(), "{{/.}} of {path:?}");
        }
    }
}
