window.pretextCompare = {"boards":[],"runs":[],"pairs":{}};
