package cloudinit

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// PasswordVariable is the environment variable with the password of AdminUser.
const PasswordVariable = "FLEET_VM_ADMIN_PASSWORD"

// hashPassword makes of a password what /etc/shadow keeps. It is bcrypt, which libxcrypt
// knows, and with it every distribution that has a cloud image of these years: the other
// choice was the password in clear in the seed, which stays on the host and in the machine.
func hashPassword(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", fmt.Errorf("the password in %s is longer than 72 bytes, of which the rest would not count: take a shorter one", PasswordVariable)
	}
	if err != nil {
		return "", fmt.Errorf("hash the password in %s: %w", PasswordVariable, err)
	}
	return string(hash), nil
}
