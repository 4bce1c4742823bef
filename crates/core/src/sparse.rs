//! Lists of stored objects in which only the elements of the operator are kept, each with its place. Pure.

use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};
use std::{fmt, marker::PhantomData};

/// Elements of a stored list that are the operator's, each with its place, and how many elements there are.
///
/// It is read from the list as it is stored, and from a reduced one, where a number stands for so many elements of
/// others in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparse<T> {
    /// The operator's own, each with its place in the stored list.
    pub ours: Vec<(usize, T)>,
    /// The length of the stored list.
    pub count: usize,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { ours: Vec::new(), count: 0 }
    }
}

/// An element of a list that tells whether it is the operator's.
pub trait Owned {
    /// Whether it is.
    fn is_ours(&self) -> bool;
}

/// One element, or so many of others.
enum Slot<T> {
    One(T),
    Others(usize),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Slot<T>;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("an element, or the number of elements that were left out")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Slot<T>, E> {
                usize::try_from(count).map(Slot::Others).map_err(E::custom)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Slot<T>, E> {
                Ok(Slot::Others(1))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Slot<T>, E> {
                T::deserialize(StrDeserializer::new(text)).map(Slot::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Slot<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Slot::One)
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Owned> Deserialize<'de> for Sparse<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Owned> Visitor<'de> for Reader<T> {
            type Value = Sparse<T>;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sparse<T>, A::Error> {
                let mut read = Sparse::default();
                while let Some(slot) = list.next_element::<Slot<T>>()? {
                    let elements = match slot {
                        Slot::Others(count) => count,
                        Slot::One(element) => {
                            if element.is_ours() {
                                read.ours.push((read.count, element));
                            }
                            1
                        }
                    };
                    let count = read.count.checked_add(elements);
                    read.count =
                        count.ok_or_else(|| A::Error::custom("more elements than can be counted"))?;
                }
                Ok(read)
            }
        }

        deserializer.deserialize_seq(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sparse_list_has_the_places_of_the_stored_one() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(transparent)]
        struct Name(String);
        impl Owned for Name {
            fn is_ours(&self) -> bool {
                self.0.starts_with("our")
            }
        }
        for list in [json!(["a", "b", "our", null, "c", "ours"]), json!([2, "our", 1, "c", "ours"])] {
            let read: Sparse<Name> = serde_json::from_str(&list.to_string()).unwrap();
            assert_eq!(read.ours, [(2, Name("our".to_owned())), (5, Name("ours".to_owned()))]);
            assert_eq!(read.count, 6);
            assert_eq!(serde_json::from_value::<Sparse<Name>>(list).unwrap(), read);
        }
        assert!(serde_json::from_str::<Sparse<Name>>(&format!("[{}, 1]", u64::MAX)).is_err());
    }
}
