//! Typed bindings of the contracts.
//!
//! Calls, events and structs come from the Solidity interfaces, which document them; bytecode and custom errors come
//! from the committed compiler output in `contracts/abi`.

#![expect(missing_docs, reason = "documented in the Solidity interfaces")]
#![expect(clippy::too_many_arguments, reason = "generated; one argument per field of an event")]

use alloy::sol;

mod artifact;

pub use artifact::Artifact;
pub(crate) use artifact::custom_error;

sol!(
    #![sol(all_derives)]
    "../contracts/src/interfaces/ILineageRegistry.sol"
);
sol!(
    #![sol(all_derives)]
    "../contracts/src/interfaces/IPaymentChannels.sol"
);
sol!(
    #![sol(all_derives)]
    "../contracts/src/interfaces/IRoyaltyPool.sol"
);
sol!(
    #![sol(all_derives)]
    "../contracts/src/interfaces/IUsageLedger.sol"
);
sol! {
    /// The part of ERC-20 that Dividend uses, and the faucet of the local test dollar.
    #[derive(Debug, PartialEq, Eq)]
    interface IDollar {
        event Transfer(address indexed from, address indexed to, uint256 value);

        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function decimals() external view returns (uint8);
        function mint(address to, uint256 amount) external;
    }
}
