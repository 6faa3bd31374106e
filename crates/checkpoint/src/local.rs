//! A local folder as a store: what the plain file system lacks of one, which is durability,
//! put-if-absent and compare-and-set. Reading, listing and deleting are `object_store`'s.
//!
//! A file is written under a temporary name, flushed, and linked or renamed into place; then its
//! folder is flushed. Large files are hard-linked in and out where the file system allows it: the
//! same bytes on the same disk, so linked files must never be changed in place. Where it does not they are
//! copied in steps, and each step is told, so that a slow disk is not taken for one that hangs.
//!
//! All calls block. Invariant: when a call succeeds the change survives a power failure, except for
//! `Folder::import`, whose names are durable after [`Folder::sync`].

use crate::error::{Error, Outcome, Result};
use crate::names::{CHECKPOINTS, CURRENT, FILES, FileId, LOCK, temporary};
use crate::progress::Moving;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock, futimens, linkat,
    mkdirat, openat, statat, unlinkat,
};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So much is copied and flushed at a time: little enough for the slowest disk to show that it goes on.
const STEP: u64 = 1024 * 1024;

/// So many calls may hang that nobody waits for any more: each keeps a thread, and there are others who need one.
const MOST_HANGING: usize = 64;

/// A folder that is a store.
#[derive(Debug)]
pub struct Folder {
    files: Arc<LocalFileSystem>,
    /// Each call holds it until it ends, which may be never.
    going_on: Arc<()>,
    /// Who waits for a call holds it.
    awaited: Arc<()>,
}

/// Whether bytes were shared or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A second name of the same file: no bytes were moved.
    Linked,
    /// A copy.
    Copied,
}

impl Folder {
    /// Opens or creates a folder.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(path: &Path) -> Result<Self> {
        create_folder(path).map_err(|e| Error::local("create", path, e))?;
        let files =
            LocalFileSystem::new_with_prefix(path).map_err(|e| Error::store("open", &path.display().to_string(), e))?;
        Ok(Self { files: Arc::new(files), going_on: Arc::default(), awaited: Arc::default() })
    }

    /// What a call holds until it ends, and what holds who waits for it; none while so many hang that one more thread
    /// is not to be risked.
    pub(crate) fn begin(&self) -> Option<(Arc<()>, Arc<()>)> {
        let hanging = Arc::strong_count(&self.going_on).saturating_sub(Arc::strong_count(&self.awaited));
        (hanging < MOST_HANGING).then(|| (Arc::clone(&self.going_on), Arc::clone(&self.awaited)))
    }

    /// The folder as an object store for reading, listing and deleting.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.files) as Arc<dyn ObjectStore>
    }

    fn locate(&self, object: &ObjectPath) -> Result<(PathBuf, PathBuf)> {
        let path = self.files.path_to_filesystem(object).map_err(|e| Error::store("locate", object.as_ref(), e))?;
        let folder = path.parent().map(Path::to_path_buf);
        let folder = folder.ok_or_else(|| Error::config(format!("{object} has no folder")))?;
        Ok((path, folder))
    }

    /// Writes a new object of a pipeline that is claimed here; false when it exists already. `unique` names the
    /// temporary file. All is done in the very folder in which the claim is seen, whatever is at its path meanwhile: a
    /// start would go on from a manifest in the place of a root that is not mounted, or take it for damage.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::NoSpace`], [`Error::Denied`], and [`Error::Missing`] when its pipeline is not
    /// claimed here.
    pub fn create(&self, object: &ObjectPath, bytes: &[u8], unique: FileId) -> Result<bool> {
        let (path, folder) = self.locate(object)?;
        let undone = |e| Error::folder("write", object.as_ref(), Outcome::SurelyNotDone, e);
        let folder = claimed(&folder, object)?;
        let name = path.file_name().unwrap_or_default();
        let temporary = temporary(unique);
        let created = write_synced_in(&folder, &temporary, bytes).and_then(|()| link_new_in(&folder, &temporary, name));
        // What cannot be removed now is collected later.
        let _ = unlinkat(&folder, temporary.as_str(), AtFlags::empty());
        if created.map_err(undone)? {
            folder.sync_all().map_err(|e| Error::folder("write", object.as_ref(), Outcome::Unknown, e))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes the folder of a pipeline that is claimed for the first time. `beside` is a claim in the same root: the
    /// folder is made in the very root in which that is seen, or nowhere.
    ///
    /// # Errors
    /// As [`Folder::create`], with the claim that is not seen.
    pub fn make_place(&self, base: &ObjectPath, beside: Option<&ObjectPath>) -> Result<()> {
        let (place, root) = self.locate(base)?;
        let undone = |e| Error::folder("make", base.as_ref(), Outcome::SurelyNotDone, e);
        let Some(beside) = beside else { return create_folder(&place).map_err(undone) };
        let unseen = |e| Error::folder("find", beside.as_ref(), Outcome::SurelyNotDone, e);
        let claim = self.locate(beside)?.0;
        let claim = claim.strip_prefix(&root).map_err(Error::config)?;
        let root = File::open(&root).map_err(unseen)?;
        statat(&root, claim, AtFlags::empty()).map_err(|e| unseen(e.into()))?;
        make_in(&root, place.file_name().unwrap_or_default()).map_err(undone)
    }

    /// Replaces an object when it still holds `expected` (`None`: when it does not exist); false
    /// when it does not. Processes exclude each other by a lock on a file beside it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::NoSpace`], [`Error::Denied`], and [`Error::Missing`] when not even its folder
    /// is there.
    pub fn replace(&self, object: &ObjectPath, expected: Option<&[u8]>, bytes: &[u8], unique: FileId) -> Result<bool> {
        let (path, folder) = self.locate(object)?;
        let undone = |e| Error::folder("replace", object.as_ref(), Outcome::SurelyNotDone, e);
        // The folder was made, or something was read in it: it is there, or the root is not mounted any more.
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK));
        let lock = lock.map_err(undone)?;
        // Released when the file is closed, at the latest when the process dies.
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| undone(e.into()))?;
        let current = match fs::read(&path) {
            Ok(current) => Some(current),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(undone(error)),
        };
        if current.as_deref() != expected {
            return Ok(false);
        }
        let temporary = folder.join(temporary(unique));
        if let Err(error) = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path)) {
            let _ = fs::remove_file(&temporary);
            return Err(undone(error));
        }
        sync_folder(&folder).map_err(|e| Error::folder("replace", object.as_ref(), Outcome::Unknown, e))?;
        Ok(true)
    }

    /// Brings a file of this machine in, by hard link where possible. An object that is there
    /// already stays: ids are unique, so it came from an earlier attempt. A copy ends when nobody waits for it.
    ///
    /// # Errors
    /// As [`Folder::create`], [`Error::Missing`] when its pipeline is not claimed here, and [`Error::Local`] when the
    /// file itself cannot be read.
    pub(crate) fn import(&self, from: &Path, object: &ObjectPath, unique: FileId, moving: &Moving) -> Result<Moved> {
        let (path, folder) = self.locate(object)?;
        let undone = |e| Error::folder("write", object.as_ref(), Outcome::SurelyNotDone, e);
        // Files come after a claim. Where there is none the root is not mounted, and what is put there is hidden
        // when it is back, though the uploader would refer to it.
        let folder = claimed(&folder, object)?;
        let name = path.file_name().unwrap_or_default();
        let source = File::open(from).map_err(|e| Error::local("read", from, e))?;
        source.sync_all().map_err(|e| Error::local("flush", from, e))?;
        // What is linked has the time of the file, and collection takes what is old and listed nowhere for garbage.
        let link = || linkat(CWD, from, &folder, name, AtFlags::empty()).map_err(io::Error::from);
        match touch(&source).and_then(|()| link()) {
            Ok(()) => return Ok(Moved::Linked),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Moved::Linked),
            Err(error) if !cannot_link(&error) => return Err(undone(error)),
            Err(_) => {}
        }
        let temporary = temporary(unique);
        let copied = create_in(&folder, &temporary)
            .and_then(|target| copy(source, target, Flush::Each, moving))
            .and_then(|()| link_new_in(&folder, &temporary, name));
        let _ = unlinkat(&folder, temporary.as_str(), AtFlags::empty());
        copied.map_err(undone)?;
        Ok(Moved::Copied)
    }

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As [`Folder::create`].
    pub fn sync(&self, prefix: &ObjectPath) -> Result<()> {
        let (folder, _) = self.locate(prefix)?;
        match sync_folder(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(|e| Error::folder("flush", prefix.as_ref(), Outcome::Unknown, e)),
        }
    }

    /// Removes a pipeline's folder in which no object is left. What others have put there stays, and so does
    /// a folder that cannot be removed: it has no meaning.
    ///
    /// # Errors
    /// When the name is none.
    pub fn remove_empty(&self, prefix: &ObjectPath) -> Result<()> {
        let (folder, _) = self.locate(prefix)?;
        for below in [FILES, CHECKPOINTS] {
            let _ = fs::remove_dir(folder.join(below));
        }
        // Nobody replaces the pointer meanwhile.
        let Ok(lock) = OpenOptions::new().write(true).open(folder.join(LOCK)) else { return Ok(()) };
        if flock(&lock, FlockOperation::LockExclusive).is_err() {
            return Ok(());
        }
        let Ok(mut left) = fs::read_dir(&folder) else { return Ok(()) };
        if left.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)) {
            let _ = fs::remove_file(folder.join(LOCK)).and_then(|()| fs::remove_dir(&folder));
        }
        Ok(())
    }

    /// Gives an object a place outside the store, by hard link where possible. What is at `to` already came from
    /// an earlier attempt, and is whole. `unique` names the temporary file.
    ///
    /// # Errors
    /// [`Error::Missing`], and [`Error::Local`] or [`Error::NoSpace`] when `to` cannot be written.
    pub(crate) fn export(&self, object: &ObjectPath, to: &Path, unique: FileId, moving: &Moving) -> Result<Moved> {
        let (path, _) = self.locate(object)?;
        match fs::hard_link(&path, to) {
            Ok(()) => Ok(Moved::Linked),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Moved::Linked),
            Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => {
                Err(Error::Missing { object: object.to_string() })
            }
            Err(error) if cannot_link(&error) => {
                let arriving = to.with_extension(format!("{unique}.arriving"));
                let copied = File::open(&path)
                    .and_then(|source| copy(source, File::create(&arriving)?, Flush::Never, moving))
                    .and_then(|()| fs::rename(&arriving, to));
                if copied.is_err() {
                    let _ = fs::remove_file(&arriving);
                }
                copied.map_err(|e| Error::local("write", to, e))?;
                Ok(Moved::Copied)
            }
            Err(error) => Err(Error::local("write", to, error)),
        }
    }
}

/// As [`open_claimed`], for an object that is to be put there.
fn claimed(folder: &Path, object: &ObjectPath) -> Result<File> {
    open_claimed(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Missing { object: folder.with_file_name(CURRENT).display().to_string() },
        _ => Error::folder("write", object.as_ref(), Outcome::SurelyNotDone, error),
    })
}

/// Opens a folder of a pipeline's folder that has the claim, and makes it if need be.
fn open_claimed(folder: &Path) -> io::Result<File> {
    let place = File::open(folder.parent().unwrap_or_else(|| Path::new(".")))?;
    statat(&place, CURRENT, AtFlags::empty())?;
    let name = folder.file_name().unwrap_or_default();
    make_in(&place, name)?;
    Ok(openat(&place, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Makes a folder in one that is open, unless it is there, and makes the name durable.
fn make_in(folder: &File, name: &OsStr) -> io::Result<()> {
    match mkdirat(folder, name, Mode::from_raw_mode(0o777)) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => {
            made?;
            folder.sync_all()
        }
    }
}

/// As [`File::create`], in a folder that is open.
fn create_in(folder: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::from_raw_mode(0o666))?.into())
}

/// As [`write_synced`], in a folder that is open.
fn write_synced_in(folder: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_in(folder, name)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a finished temporary file its name; false when the name is taken.
fn link_new_in(folder: &File, temporary: &str, name: &OsStr) -> io::Result<bool> {
    match linkat(folder, temporary, folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// When what is copied is made durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// With each step: a flush of all at the end would show nothing for long.
    Each,
    /// It need not be.
    Never,
}

/// Copies a file to a new one and tells of each step. The file system may share the bytes.
fn copy(mut source: File, mut target: File, flush: Flush, moving: &Moving) -> io::Result<()> {
    while io::copy(&mut Read::by_ref(&mut source).take(STEP), &mut target)? > 0 {
        if flush == Flush::Each {
            target.sync_data()?;
        }
        moving.note()?;
    }
    if flush == Flush::Each { target.sync_all() } else { Ok(()) }
}

/// Makes now the time at which a file was changed.
fn touch(file: &File) -> io::Result<()> {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    futimens(file, &times).map_err(io::Error::from)
}

/// Whether a link is impossible between these places, so that a copy is in order.
fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::TooManyLinks | ErrorKind::Unsupported | ErrorKind::PermissionDenied
    )
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder and what is missing above it, and makes the new names durable.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or_else(|| Path::new(""));
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(if above.as_os_str().is_empty() { Path::new(".") } else { above }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Watch;

    #[test]
    fn a_copy_tells_of_each_step_and_ends_when_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..u32::try_from(STEP).expect("it is small") / 2).flat_map(u32::to_le_bytes).collect();
        fs::write(at("from"), &bytes).expect("it is written");
        for flush in [Flush::Each, Flush::Never] {
            let watch = Watch::default();
            let moving = watch.moving(None);
            let source = || File::open(at("from")).expect("it is there");
            let target = |name: &str| File::create(at(name)).expect("it is made");
            copy(source(), target("to"), flush, &moving).expect("it is copied");
            assert_eq!(watch.steps(), 2);
            assert!(fs::read(at("to")).expect("it is there") == bytes);
            drop(watch);
            copy(source(), target("left"), flush, &moving).expect_err("nobody waits for it");
            assert_eq!(fs::metadata(at("left")).expect("it was begun").len(), STEP);
        }
    }

    #[test]
    fn not_every_thread_is_left_to_calls_that_hang() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Folder::open(folder.path()).expect("a store");
        let awaited: Vec<_> = (0..2 * MOST_HANGING).map(|_| store.begin().expect("none hangs")).collect();
        drop(awaited);
        let mut hanging: Vec<_> = (0..MOST_HANGING).map(|_| store.begin().expect("few hang").0).collect();
        assert!(store.begin().is_none());
        hanging.pop();
        assert!(store.begin().is_some(), "one has ended");
    }

    #[test]
    fn what_an_earlier_attempt_brought_out_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Folder::open(&folder.path().join("root")).expect("a store");
        let unique = FileId::parse(&"0".repeat(32)).expect("an id");
        let (object, to) = (ObjectPath::from("p/files/a"), folder.path().join("a.sst"));
        store.make_place(&ObjectPath::from("p"), None).expect("a folder");
        assert!(store.replace(&ObjectPath::from("p/current"), None, b"1", unique).expect("it is claimed"));
        assert!(store.create(&object, b"1", unique).expect("it is written"));
        let watch = Watch::default();
        for _ in 0..2 {
            let moving = watch.moving(None);
            let moved = store.export(&object, &to, unique, &moving).expect("it is brought out");
            assert_eq!(moved, Moved::Linked);
        }
        assert_eq!(fs::read(&to).expect("it is there"), b"1");
    }

    #[test]
    fn a_folder_without_objects_goes_with_its_lock() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Folder::open(root.path()).expect("a store");
        let unique = FileId::parse(&"0".repeat(32)).expect("an id");
        let (prefix, current) = (ObjectPath::from("q5"), ObjectPath::from("q5/current"));
        store.make_place(&prefix, None).expect("a folder");
        assert!(store.replace(&current, None, b"1", unique).expect("it is written"));
        fs::create_dir(root.path().join("q5/files")).expect("a folder");
        store.remove_empty(&prefix).expect("a name");
        assert!(root.path().join("q5/current").exists() && root.path().join("q5").join(LOCK).exists());
        fs::remove_file(root.path().join("q5/current")).expect("it is there");
        store.remove_empty(&prefix).expect("a name");
        assert!(!root.path().join("q5").exists());
        store.remove_empty(&prefix).expect("there is nothing to do");
    }

    #[test]
    fn what_is_created_is_where_the_claim_is_or_nowhere() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Folder::open(root.path()).expect("a store");
        let unique = FileId::parse(&"0".repeat(32)).expect("an id");
        let (current, object) = (ObjectPath::from("q5/current"), ObjectPath::from("q5/checkpoints/1.json"));
        for has_a_folder in [false, true] {
            if has_a_folder {
                fs::create_dir(root.path().join("q5")).expect("a folder without a claim");
            }
            let refused = store.create(&object, b"1", unique).expect_err("there is no claim");
            assert!(matches!(refused, Error::Missing { .. }), "{refused}");
            assert!(!root.path().join("q5/checkpoints").exists());
        }
        store.make_place(&ObjectPath::from("q5"), None).expect("it is there");
        assert!(store.replace(&current, None, b"1", unique).expect("it is claimed"));
        assert!(store.create(&object, b"1", unique).expect("it is written"));
        assert!(!store.create(&object, b"2", unique).expect("it is there"));
        let folder = root.path().join("q5/checkpoints");
        assert_eq!(fs::read(folder.join("1.json")).expect("it is read"), b"1");
        assert_eq!(fs::read_dir(folder).expect("a folder").count(), 1, "nothing temporary is left");
    }
}
