//! The folder of a channel: its terms, the signer's key, the book of promises, and a lock that keeps a second signer
//! out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use dividend_chain::{Address, B256, Key};
use serde::{Deserialize, Serialize};

use super::book::Book;
use crate::failure::{Failure, OrFail};
use crate::home::{read_json, write_json};

/// What never changes about a channel, as it was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    /// Id of the channel.
    pub(crate) channel: B256,
    /// EIP-155 id of its chain.
    pub(crate) chain_id: u64,
    /// PaymentChannels, which keeps the deposit and checks vouchers.
    pub(crate) contract: Address,
    /// The token of the deposit.
    pub(crate) token: Address,
    /// Owner of the deposit.
    pub(crate) payer: Address,
    /// The key that signs vouchers.
    pub(crate) signer: Address,
    /// Tells the payer's channels apart.
    pub(crate) salt: B256,
}

/// The folders of all channels of a home.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// One channel's folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct Held {
    folder: PathBuf,
    /// Unlocked by the system when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// The channels kept under `root`, which need not exist yet.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Keeps a new channel with the key that signs for it. Done before the channel is opened on the chain: a deposit
    /// whose signer is lost could only be withdrawn.
    pub(crate) fn create(&self, terms: &Terms, signer: &Key) -> anyhow::Result<()> {
        let folder = self.folder(terms.channel);
        std::fs::create_dir_all(&folder).or_fail(
            format!("cannot make {}", folder.display()),
            "choose a folder that you can write to with --home",
        )?;
        signer.save(&folder.join("signer.key"))?;
        write_json(&folder.join("channel.json"), terms)
    }

    /// The terms of a channel.
    pub(crate) fn terms(&self, channel: B256) -> anyhow::Result<Terms> {
        let path = self.folder(channel).join("channel.json");
        read_json(&path)?.ok_or_else(|| {
            let remedy = "open it with `dividend pay open`, or name the home that did with --home";
            Failure::new(format!("channel {channel} is not kept in {}", self.root.display()), remedy).into()
        })
    }

    /// The channels kept here, in order of id.
    pub(crate) fn channels(&self) -> anyhow::Result<Vec<B256>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).or_fail(self.root.display(), "make the folder readable"),
        };
        let mut channels = Vec::new();
        for entry in entries {
            let name = entry.or_fail(self.root.display(), "make the folder readable")?.file_name();
            channels.extend(name.to_str().and_then(|name| name.parse::<B256>().ok()));
        }
        channels.sort();
        Ok(channels)
    }

    /// The promises made so far, for reading only.
    pub(crate) fn book(&self, channel: B256) -> anyhow::Result<Book> {
        Ok(read_json(&self.folder(channel).join("book.json"))?.unwrap_or_default())
    }

    /// Takes the right to sign for a channel.
    pub(crate) fn hold(&self, channel: B256) -> anyhow::Result<(Held, Key, Book)> {
        let folder = self.folder(channel);
        let path = folder.join("lock");
        let lock = File::create(&path).or_fail(path.display(), "check the folder's permissions")?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let message = format!("another process signs for channel {channel}");
                Failure::new(message, "stop that proxy first, or open a second channel")
            }
            TryLockError::Error(error) => {
                Failure::new(format!("{}: {error}", path.display()), "use a local disk")
            }
        })?;
        // Read under the lock: what another process signed until now is in it.
        let book = self.book(channel)?;
        let key = Key::load(&folder.join("signer.key"))?;
        Ok((Held { folder, _lock: lock }, key, book))
    }

    fn folder(&self, channel: B256) -> PathBuf {
        self.root.join(channel.to_string())
    }
}

impl Held {
    /// Where the book is kept.
    pub(crate) fn book_path(&self) -> PathBuf {
        self.folder.join("book.json")
    }
}

/// Stores a book so that it is on disk when this returns, whole or not at all.
pub(crate) fn save_book(path: &Path, book: &Book) -> anyhow::Result<()> {
    write_json(path, book)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(channel: u8, signer: &Key) -> Terms {
        Terms {
            channel: B256::repeat_byte(channel),
            chain_id: 31337,
            contract: Address::repeat_byte(1),
            token: Address::repeat_byte(2),
            payer: Address::repeat_byte(3),
            signer: signer.address(),
            salt: B256::ZERO,
        }
    }

    #[test]
    fn a_channel_survives_its_folder_with_its_book() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().join("pay"));
        assert!(store.channels().unwrap().is_empty());
        let signer = Key::generate();
        let terms = terms(9, &signer);
        store.create(&terms, &signer).unwrap();
        assert_eq!(store.terms(terms.channel).unwrap(), terms);
        assert_eq!(store.channels().unwrap(), [terms.channel]);

        let (held, key, mut book) = store.hold(terms.channel).unwrap();
        assert_eq!(key.address(), terms.signer);
        assert!(book.sign(B256::ZERO, 5));
        save_book(&held.book_path(), &book).unwrap();
        drop(held);
        assert_eq!(store.hold(terms.channel).unwrap().2, book);
    }

    #[test]
    fn two_signers_of_one_channel_are_kept_apart() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned());
        let signer = Key::generate();
        store.create(&terms(1, &signer), &signer).unwrap();
        let held = store.hold(B256::repeat_byte(1)).unwrap();
        let error = store.hold(B256::repeat_byte(1)).unwrap_err();
        assert!(error.to_string().contains("another process signs"), "{error}");
        drop(held);
        assert!(store.hold(B256::repeat_byte(1)).is_ok());
    }

    #[test]
    fn an_unknown_or_damaged_channel_is_named() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned());
        let error = store.terms(B256::repeat_byte(5)).unwrap_err();
        assert!(error.to_string().contains("0x0505"), "{error}");
        let signer = Key::generate();
        store.create(&terms(1, &signer), &signer).unwrap();
        let book = home.path().join(B256::repeat_byte(1).to_string()).join("book.json");
        std::fs::write(&book, "{\"lanes\":{\"0x01\":").unwrap();
        assert!(store.hold(B256::repeat_byte(1)).unwrap_err().to_string().contains("book.json"));
    }
}
