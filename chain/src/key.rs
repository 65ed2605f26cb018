//! Private keys in files that only their owner can read, and signatures over digests.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use alloy::primitives::{Address, B256, Signature, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;

use crate::{Error, Result};

/// A key file is `0x`, 64 hex digits and a newline; nothing longer is read.
const MAX_KEY_FILE_BYTES: u64 = 128;

/// A secp256k1 private key. `Debug` and `Display` show its address only.
#[derive(Clone)]
pub struct Key {
    signer: PrivateKeySigner,
}

impl Key {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Self {
        Self { signer: PrivateKeySigner::random() }
    }

    /// The key with the given big-endian scalar.
    ///
    /// # Errors
    /// [`Error::Signature`] if the scalar is zero or not below the order of the curve.
    pub fn from_bytes(scalar: B256) -> Result<Self> {
        let signer = PrivateKeySigner::from_bytes(&scalar)
            .map_err(|_| Error::Signature("a private key must lie between 1 and the curve's order".into()))?;
        Ok(Self { signer })
    }

    /// Reads a key file: `0x` and 64 hex digits, readable by its owner alone.
    ///
    /// # Errors
    /// [`Error::KeyFile`] if it is missing, open to others (mode beyond 0600), or holds anything else.
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |problem: String| Error::KeyFile { path: path.into(), problem };
        let file = File::open(path).map_err(|e| bad(e.to_string()))?;
        let mode = file.metadata().map_err(|e| bad(e.to_string()))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(bad(format!("mode is {mode:04o}, so others can read it; run: chmod 600")));
        }
        let mut text = String::new();
        file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        let scalar: B256 =
            text.trim().parse().map_err(|_| bad("expected 0x and 64 hex digits, nothing else".into()))?;
        Self::from_bytes(scalar).map_err(|e| bad(e.to_string()))
    }

    /// Writes the key to a new file of mode 0600.
    ///
    /// # Errors
    /// [`Error::KeyFile`] if the file exists (a key is never overwritten) or cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bad = |e: std::io::Error| Error::KeyFile { path: path.into(), problem: e.to_string() };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(bad)?;
        let line = format!("{}\n", hex::encode_prefixed(self.signer.to_bytes()));
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(bad)
    }

    /// Loads the key, or generates and saves one if the file does not exist.
    ///
    /// # Errors
    /// As [`Key::load`] and [`Key::save`].
    pub fn load_or_generate(path: &Path) -> Result<Self> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let key = Self::generate();
                key.save(path)?;
                Ok(key)
            }
            _ => Self::load(path),
        }
    }

    /// The account that the key controls.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs a digest: `r ‖ s ‖ v` with low s and v of 27 or 28, as OpenZeppelin's `ECDSA` expects.
    ///
    /// # Errors
    /// [`Error::Signature`] in the case, of negligible probability, that the curve arithmetic fails.
    pub fn sign(&self, digest: B256) -> Result<[u8; 65]> {
        let signature = self.signer.sign_hash_sync(&digest).map_err(|e| Error::Signature(e.to_string()))?;
        Ok(signature.normalized_s().as_bytes())
    }

    pub(crate) fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.address())
    }
}

/// The account that signed `digest`.
///
/// # Errors
/// [`Error::Signature`] unless `signature` is 65 bytes, has a low s (as the contracts demand: a high s is the same
/// signature malleated) and v of 27 or 28, and recovers to an account.
pub fn recover(digest: B256, signature: &[u8]) -> Result<Address> {
    let Ok(raw) = <&[u8; 65]>::try_from(signature) else {
        return Err(Error::Signature(format!("has {} bytes, expected 65 (r, s, v)", signature.len())));
    };
    if !matches!(raw[64], 27 | 28) {
        return Err(Error::Signature(format!("has v = {}, expected 27 or 28", raw[64])));
    }
    let signature = Signature::from_raw_array(raw).map_err(|e| Error::Signature(e.to_string()))?;
    if signature.normalize_s().is_some() {
        return Err(Error::Signature("has a high s; sign with low s (EIP-2)".into()));
    }
    let signer = signature
        .recover_address_from_prehash(&digest)
        .map_err(|e| Error::Signature(format!("does not recover to an account: {e}")))?;
    if signer == Address::ZERO {
        return Err(Error::Signature("recovers to the zero account".into()));
    }
    Ok(signer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use alloy::primitives::{U256, keccak256};

    use super::*;

    #[test]
    fn a_signature_recovers_to_its_signer() {
        let key = Key::generate();
        let digest = keccak256(b"voucher");
        let signature = key.sign(digest).unwrap();
        assert_eq!(recover(digest, &signature).unwrap(), key.address());
        assert_ne!(recover(keccak256(b"other"), &signature).ok(), Some(key.address()));
    }

    #[test]
    fn malleated_short_and_foreign_signatures_are_refused() {
        let key = Key::generate();
        let digest = keccak256(b"voucher");
        let signature = key.sign(digest).unwrap();
        let order =
            "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse::<U256>().unwrap();
        let mut high = signature;
        let s = U256::from_be_slice(&signature[32..64]);
        high[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        high[64] = 55 - signature[64];
        assert!(recover(digest, &high).unwrap_err().to_string().contains("high s"));
        assert!(recover(digest, &signature[..64]).unwrap_err().to_string().contains("64 bytes"));
        let mut parity = signature;
        parity[64] -= 27;
        assert!(recover(digest, &parity).unwrap_err().to_string().contains("27 or 28"));
        assert!(recover(digest, &[0u8; 65]).is_err());
    }

    #[test]
    fn a_key_survives_its_file_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.key");
        let key = Key::load_or_generate(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::load_or_generate(&path).unwrap().address(), key.address());
        assert!(Key::generate().save(&path).is_err());
        assert_eq!(Key::load(&path).unwrap().address(), key.address());
    }

    #[test]
    fn a_readable_or_malformed_key_file_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.key");
        Key::generate().save(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = Key::load(&path).unwrap_err().to_string();
        assert!(open.contains("0644") && open.contains("chmod 600"), "{open}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "0x1234secret").unwrap();
        let malformed = Key::load(&path).unwrap_err().to_string();
        assert!(malformed.contains("64 hex") && !malformed.contains("secret"), "{malformed}");
        std::fs::write(&path, format!("{}\n", B256::ZERO)).unwrap();
        assert!(Key::load(&path).is_err());
    }
}
