//! Few things with names: one sorted vector, for where a lookup is rare and code counts.
//!
//! It never keeps two of one name.

/// Values by name, in order of name.
#[derive(Clone, Debug)]
pub struct ByName<T>(Vec<(String, T)>);

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName(Vec::new())
    }
}

impl<T> ByName<T> {
    fn search(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(name))
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<&T> {
        self.search(name).ok().map(|at| &self.0[at].1)
    }

    /// The value called `name`, made first if there is none.
    pub fn find_or_add(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let at = self.search(name).unwrap_or_else(|at| {
            self.0.insert(at, (name.to_owned(), make()));
            at
        });
        &mut self.0[at].1
    }

    /// Takes the value called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let at = self.search(name).ok()?;
        Some(self.0.remove(at).1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_name_in_order() {
        let mut all = ByName::default();
        for (name, value) in [("b", 1), ("a", 2), ("c", 3), ("a", 4)] {
            *all.find_or_add(name, || 0) += value;
        }
        assert_eq!(
            all.iter().collect::<Vec<_>>(),
            [("a", &6), ("b", &1), ("c", &3)]
        );
        assert_eq!((all.find("c"), all.find("d")), (Some(&3), None));
        assert_eq!((all.remove("b"), all.remove("b")), (Some(1), None));
        assert_eq!((all.len(), all.is_empty()), (2, false));
    }
}
