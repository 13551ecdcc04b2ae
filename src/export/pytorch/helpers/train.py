    def is_frozen(self, name: str) -> bool:
        """Whether a module, or a tensor, is one of those that are frozen, or lies inside one."""
        return any(name == path or name.startswith(path + ".") for path in self.frozen)

    def train(self, mode: bool = True):
        super().train(mode)
        for name, module in self.named_modules():
            if self.is_frozen(name):
                module.training = False
        return self
