        for name, parameter in self.named_parameters():
            if self.is_frozen(name):
                parameter.requires_grad_(False)
        self.train()
